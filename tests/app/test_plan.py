"""What a run will take is told before anything is spent, and a large transfer waits for consent."""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import yaml
from tests.conftest import ROOT

from sdss_photoz.app import cli
from sdss_photoz.app.costs import Resources, box_area
from sdss_photoz.app.plan import CONNECTIONS, format_hours, plan
from sdss_photoz.config import check, load
from sdss_photoz.frames.consent import FRAME_BYTES, format_bytes
from sdss_photoz.training.measured import measurement
from sdss_photoz.training.resources import COSTS

MEANS = Resources(cores=2, gpus=0, connections=4, mb_per_second=1.0, tflops=100.0)
NOWHERE = "http://127.0.0.1:9/sas"  # nothing listens there


def remote(**archive):
    """The tiny run's configuration with its frames behind HTTP."""
    return {
        **yaml.safe_load((ROOT / "tests" / "tiny.yaml").read_text()),
        "archive": {"service": "skyserver", "sas": NOWHERE, **archive},
    }


def needed(workflow) -> pd.DataFrame:
    """The frames that the chunks of a finished run needed, by their manifests."""
    manifests = [pd.read_parquet(path) for path in sorted((workflow.results / "archive" / "frames").glob("*.parquet"))]
    return pd.concat(manifests)


def stages(found):
    return {stage["stage"]: stage for stage in found["stages"]}


def test_before_any_table_the_whole_survey_is_half_a_million_galaxies_a_million_frames_and_three_terabytes(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    total = plan(load(ROOT / "config" / "sdss-dr12.yaml"), MEANS)["total"]
    assert total["galaxies"] == 516_525
    assert total["frames"] == 1_000_000
    assert total["bytes_to_fetch"] == 3 * 10**12


def test_cubes_take_the_disk_of_their_precision(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    paper = load(ROOT / "config" / "sdss-dr12.yaml")
    for precision, bytes_a_cube in {"float32": 64 * 64 * 5 * 4, "float16": 64 * 64 * 5 * 2, "bits10": 39_000}.items():
        cubes = paper.cubes.model_copy(update={"precision": precision})
        found = plan(paper.model_copy(update={"cubes": cubes}), MEANS)
        assert stages(found)["cubes"]["disk_bytes"] == 516_525 * bytes_a_cube
        assert any(f"cubes as {precision}," in sentence for sentence in found["rests_on"])


def test_what_conditions_and_a_query_of_ones_own_leave_is_said_to_be_unknown(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    values = {"sample": {"where": "ebv < 1"}, "trials": {"a": {"where": "ebv < 0.1"}, "b": {}}}
    said = plan(check({"archive": {"query": "own.sql"}, **values}), MEANS)["rests_on"]
    assert "no condition (trials.a.where, sample.where): the figures are upper limits" in said
    assert any("archive.query" in sentence for sentence in said)
    assert not any("condition" in sentence for sentence in plan(check({}), MEANS)["rests_on"])


def test_a_box_is_scaled_by_its_area_on_the_sphere():
    whole = check({"regions": {"all": {}, "belt": {"ra": [350, 10], "dec": [0, 30]}}}).regions
    assert box_area(whole["all"]) == pytest.approx(41_253, rel=1e-4)
    assert box_area(whole["belt"]) == pytest.approx(573, rel=1e-3)  # 20 deg x 57.3 x sin 30 deg


def test_a_finished_run_is_counted_from_its_own_tables(tiny, monkeypatch):
    monkeypatch.chdir(tiny.directory)
    total = plan(check(remote(mirror="/nonexistent")), MEANS)["total"]
    frames = needed(tiny).drop_duplicates("path")
    assert total["galaxies"] == len(pd.read_parquet(tiny.results / "sample" / "galaxies.parquet"))
    assert total["frames"] == len(frames)
    assert total["bytes_to_fetch"] == len(frames) * FRAME_BYTES


def test_frames_of_the_mirror_are_not_fetched_again_and_a_folder_is_read_in_place(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tiny.directory)
    paths = sorted(set(needed(tiny)["path"]))
    for path in paths[:3]:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(tiny.results / "archive" / "sas" / path, tmp_path / path)
    found = plan(check(remote(mirror=str(tmp_path))), MEANS)
    assert found["total"]["bytes_to_fetch"] == (len(paths) - 3) * FRAME_BYTES
    folder = check(remote(sas=(tiny.results / "archive" / "sas").as_uri()))
    assert plan(folder, MEANS)["total"]["bytes_to_fetch"] == 0


@pytest.mark.parametrize("locked", ["", "dr12/boss/photoObj/frames/301/94/1"], ids=["mirror", "folder of a run"])
def test_a_mirror_that_cannot_be_read_is_one_sentence_before_the_download(locked):
    """The plan stands before the download and looks into the mirror first."""
    code = (
        "import os, sys; import pandas as pd; from sdss_photoz.config import check\n"
        "from sdss_photoz.errors import UserError; from sdss_photoz.frames.needs import bytes_to_fetch\n"
        "config = check({'archive': {'service': 'skyserver', 'mirror': sys.argv[1]}})\n"
        "frames = pd.DataFrame({'chunk': [0], 'run': [94], 'camcol': [1], 'field': [11], 'band': ['r']})\n"
        "if os.geteuid() == 0: os.setgid(65534); os.setuid(65534)\n"  # root's are no permissions
        "try: bytes_to_fetch(config, frames)\n"
        "except UserError as error: print(error)\n"
    )
    with tempfile.TemporaryDirectory() as place:  # where nobody may go, which pytest's folders are not
        mirror = Path(place) / "mirror"
        (mirror / "dr12/boss/photoObj/frames/301/94/1").mkdir(parents=True)
        Path(place).chmod(0o755)
        (mirror / locked).chmod(0)
        done = subprocess.run([sys.executable, "-c", code, str(mirror)], capture_output=True, text=True, timeout=60)
        (mirror / locked).chmod(0o755)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1
    assert str(mirror) in done.stdout
    assert "cannot be read or written (Permission denied): give yourself permission" in done.stdout


def test_frames_that_are_not_kept_take_a_scratch_folder_a_job_and_come_once_for_each_chunk(tiny, monkeypatch):
    monkeypatch.chdir(tiny.directory)
    config = check({**remote(mirror="/nonexistent"), "frames": {"keep": False, "scratch_gb": 0.5}})
    for connections, jobs in [(3, 1), (4, 1), (8, 2), (64, 2)]:  # each job holds four, and there are two cores
        found = stages(plan(config, MEANS._replace(connections=connections)))
        assert found["archive"]["bytes_to_fetch"] == len(needed(tiny)) * FRAME_BYTES
        assert found["archive"]["disk_bytes"] == jobs * 500_000_000
        assert found["cubes"]["wall_hours"] == found["cubes"]["cpu_hours"] / jobs


def test_more_cores_and_gpus_shorten_the_wall_clock_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = load(ROOT / "config" / "sdss-dr12.yaml")
    few, many = plan(config, MEANS._replace(gpus=1)), plan(config, MEANS._replace(cores=64, gpus=8))
    for stage in ("cubes", "training"):
        assert stages(many)[stage]["wall_hours"] < stages(few)[stage]["wall_hours"]
        assert stages(many)[stage]["gpu_hours"] == stages(few)[stage]["gpu_hours"]
        assert stages(many)[stage]["cpu_hours"] == stages(few)[stage]["cpu_hours"]
    # the paper's own figure: 120,000 steps of 128 galaxies are 70 PFLOP; 30 networks a trial, four such trials
    assert stages(few)["training"]["gpu_hours"] == pytest.approx(120 * 70e15 / 100e12 / 3600, rel=0.05)


def test_an_own_network_is_counted_as_the_papers_until_it_is_measured_and_the_plan_says_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    own, papers = (
        check({"training": {"network": name}}) for name in ("tests.fixtures.plain_network:Network", "inception")
    )
    found = plan(own, MEANS)
    assert stages(found) == stages(plan(papers, MEANS))
    said = "tests.fixtures.plain_network:Network: counted as inception, for no run has measured it yet"
    assert said in found["rests_on"][-1]
    assert "counted as" not in plan(papers, MEANS)["rests_on"][-1]
    path = measurement(own, "images")
    path.parent.mkdir(parents=True)
    cost = {key: value / 10 for key, value in COSTS["inception"]._asdict().items()}
    path.write_text(json.dumps({"cost": cost}))
    measured = plan(own, MEANS)
    assert "tests.fixtures.plain_network:Network: as this run has measured it" in measured["rests_on"][-1]
    assert "counted as" not in measured["rests_on"][-1]
    hours = [stages(each)["training"]["cpu_hours"] for each in (found, measured)]
    assert hours[1] == pytest.approx(hours[0] / 10)


def test_the_figures_of_each_network_are_those_of_the_network():
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from sdss_photoz.networks import build, names

    assert set(COSTS) == set(names())
    for name, cost in COSTS.items():
        network, cube, ebv = build(name), torch.randn(1, 64, 64, 5), torch.rand(1, 1)
        with FlopCounterMode(display=False) as forward, torch.no_grad():
            network(cube, ebv)
        with FlopCounterMode(display=False) as both:
            network(cube, ebv).sum().backward()
        assert cost.prediction_flop == pytest.approx(forward.get_total_flops(), rel=0.02)
        assert cost.training_flop == pytest.approx(both.get_total_flops(), rel=0.02)
        assert cost.weights == 4 * sum(weight.numel() for weight in network.parameters())


def test_connections_are_those_that_the_profiles_allow():
    for profile in (ROOT / "profiles" / "default" / "config.yaml", ROOT / "slurm" / "config.yaml"):
        assert f"archive_connections={CONNECTIONS}" in yaml.safe_load(profile.read_text())["resources"]


def test_the_command_prints_a_table_or_json_and_warns_of_consent_and_of_a_small_disk(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["plan", "--configfile", str(ROOT / "config" / "sdss-dr12.yaml"), "--cores", "16", "--gpus", "2"]
    assert cli.main(words) == 0
    text = capsys.readouterr().out
    words_of_table = ("galaxies", "frames", "to fetch", "disk at peak", "CPU hours", "GPU hours", "wall clock")
    assert all(word in text.splitlines()[2] for word in words_of_table)
    for word in ("archive", "cubes", "training", "total", "516,525", "1,000,000", "These figures rest on"):
        assert word in text
    assert cli.main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [stage["stage"] for stage in found["stages"]] == ["archive", "cubes", "training"]
    consent = found["warnings"][0]
    assert "help@sdss.org" in consent
    assert "archive.help_desk_told" in consent
    if shutil.disk_usage(tmp_path).free < found["total"]["disk_bytes"]:
        assert any("free" in warning for warning in found["warnings"][1:])


@pytest.mark.parametrize(
    ("amount", "text"), [(0, "0 bytes"), (1, "1 bytes"), (999_700, "1 MB"), (3.08e12, "3.08 TB"), (999_400, "999 kB")]
)
def test_bytes_are_written_as_people_write_them(amount, text):
    assert format_bytes(amount) == text


@pytest.mark.parametrize(("amount", "text"), [(68_290.4, "68,290"), (24, "24"), (6.43, "6.4"), (0.042, "0.04")])
def test_processor_hours_are_written_as_one_applies_for_them(amount, text):
    assert format_hours(amount) == text


def test_a_small_disk_is_told_with_what_helps(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=10**9))
    config = yaml.safe_load((ROOT / "config" / "sdss-dr12.yaml").read_text())
    _, kept = plan(check(config), MEANS)["warnings"]
    assert kept.startswith("results and frames take 3.08 TB, but the disk of results/sdss_dr12 has 1 GB free")
    assert "frames.keep: false" in kept
    _, dropped = plan(check({**config, "frames": {"keep": False}}), MEANS)["warnings"]
    assert dropped.endswith("has 1 GB free: free some, or work on another disk.")


def test_a_wrong_word_is_one_sentence(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["plan", "--configfile", "missing.yaml"]) == 1
    assert "missing.yaml" in capsys.readouterr().err
    assert cli.main(["plan", "--configfile", str(ROOT / "config.yaml"), "--tflops", "0"]) == 1
    assert "--tflops is 0" in capsys.readouterr().err


def test_the_run_counts_its_frames_before_the_download(tiny):
    found, frames = json.loads((tiny.results / "archive" / "plan.json").read_text()), needed(tiny)
    assert found["frames"] == frames["path"].nunique()
    assert found["frames_of_chunks"] == len(frames)
    assert sum(found["frames_by_chunk"].values()) == len(frames)
    assert found["estimated_bytes"] == found["frames"] * FRAME_BYTES


def test_a_large_download_waits_until_the_help_desk_was_told(tiny, tmp_path):
    workflow = tiny.copy(tmp_path / "copy")
    again = ("--cores", "1", "--until", "plan_frames", "--forcerun", "plan_frames")
    archive = f"sas: {NOWHERE}, mirror: {tmp_path / 'mirror'}, consent_bytes: 1000000"
    refused = workflow.run(*again, config=[f"archive={{{archive}}}"])
    log = (workflow.results / "logs" / "plan_frames.log").read_text().splitlines()
    assert refused.returncode != 0
    assert len(log) == 1
    assert "help@sdss.org" in log[0]
    assert "archive.help_desk_told" in log[0]
    assert not (workflow.results / "archive" / "plan.json").exists()
    workflow.run(*again, config=[f"archive={{{archive}, help_desk_told: true}}"], check=True)
    planned = (workflow.results / "archive" / "plan.json").read_bytes()
    assert planned == (tiny.results / "archive" / "plan.json").read_bytes()


def test_no_consent_is_asked_for_frames_that_are_there(tiny, tmp_path):
    workflow = tiny.copy(tmp_path / "copy")
    mirror = workflow.results / "archive" / "sas"
    archive = f"archive={{sas: {NOWHERE}, mirror: {mirror}, consent_bytes: 0}}"
    workflow.run("--cores", "1", "--until", "plan_frames", "--forcerun", "plan_frames", config=[archive], check=True)
