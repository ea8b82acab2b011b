"""All jobs together hold no more connections to the archive than the profiles allow."""

import json
import shutil
import subprocess
import sys

import pytest

SNAKEFILE = """
rule all:
    input: expand("{k}.fetched", k=range(4)), "granted"

rule fetch:
    output: "{k}.fetched"
    resources: archive_connections=4
    shell: "date +%s.%N > {output}; sleep 1.5; date +%s.%N >> {output}"

rule greedy:
    output: "granted"
    resources: archive_connections=16
    script: "greedy.py"
"""
GREEDY = 'open(snakemake.output[0], "w").write(str(snakemake.resources.archive_connections))'


LIST = """
import json, sys
from pathlib import Path
from snakemake.api import SnakemakeApi
from snakemake.settings.types import ConfigSettings, OutputSettings, Quietness, ResourceSettings

with SnakemakeApi(OutputSettings(quiet={Quietness.ALL})) as api:
    config, place = ConfigSettings(config=json.loads(sys.argv[2])), Path(sys.argv[3])
    made = api.workflow(ResourceSettings(cores=1), config, snakefile=Path(sys.argv[1]), workdir=place)
    rules, name = made._workflow.rules, "archive_connections"
    asked = {rule.name: rule.resources[name].value for rule in rules if name in rule.resources}
    print(json.dumps([asked, sorted(made._workflow._localrules)]))  # is_local() takes all for local without a cluster
"""


def list_rules(root, tmp_path, **config):
    """Connections that each rule asks for, by its name; and the rules that run where Snakemake runs."""
    words = [root / "Snakefile", json.dumps({"run": "x", **config}), tmp_path]
    done = subprocess.run([sys.executable, "-c", LIST, *map(str, words)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("words", [[], ["--profile", "slurm", "--executor", "local"]], ids=["workstation", "cluster"])
def test_two_jobs_of_four_connections_run_at_once_and_not_three(root, tmp_path, words):
    for name in ("profiles", "slurm"):
        shutil.copytree(root / name, tmp_path / name)
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    (tmp_path / "greedy.py").write_text(GREEDY)
    command = [sys.executable, "-m", "snakemake", "--cores", "8", "--jobs", "8", "--latency-wait", "5", *words]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    spans = [tuple(map(float, path.read_text().split())) for path in tmp_path.glob("*.fetched")]
    assert max(sum(first <= start < last for first, last in spans) for start, _ in spans) == 2
    assert (tmp_path / "granted").read_text() == "8"  # a job that wants more than all may have is given all


@pytest.mark.parametrize(
    ("keep", "fetching", "not_fetching"),
    [(True, "download_frames", "make_cubes"), (False, "make_cubes", "download_frames")],
)
def test_jobs_that_open_connections_say_so(root, tmp_path, keep, fetching, not_fetching):
    """With frames kept, cubes are made without the network; else they fetch, and the listing of frames does not."""
    archive = {"service": "casjobs", "connections": 3}
    asked, _ = list_rules(root, tmp_path, archive=archive, frames={"keep": keep})
    assert asked == {"query_galaxies": 1, "query_fields": 1, fetching: 3, not_fetching: 0}


@pytest.mark.parametrize("on_head_node", [True, False])
def test_downloads_stay_on_the_head_node_where_that_is_asked_for(root, tmp_path, on_head_node):
    _, local = list_rules(root, tmp_path, archive={"service": "casjobs", "on_head_node": on_head_node})
    assert ("download_frames" in local) is on_head_node
    assert {"query_galaxies", "query_fields"} <= set(local)
    assert not {"make_cubes", "train_member", "predict_fold"} & set(local)


def test_downloads_go_to_the_partition_that_the_slurm_profile_names(root, tmp_path):
    """The two lines of the profile that a user of such a cluster takes the # from."""
    profile = (root / "slurm" / "config.yaml").read_text()
    lines = "  # download_frames:\n  #   slurm_partition: data\n"
    assert lines in profile
    (tmp_path / "slurm").mkdir()
    (tmp_path / "slurm" / "config.yaml").write_text(profile.replace(lines, lines.replace("# ", "")))
    words = ["download_frames", "make_cubes"]
    rules = [f'rule {word}:\n    output: "{word}"\n    script: "partition.py"\n' for word in words]
    (tmp_path / "Snakefile").write_text(f"rule all:\n    input: {words}\n\n" + "\n".join(rules))
    (tmp_path / "partition.py").write_text(GREEDY.replace("archive_connections", "slurm_partition"))
    command = [sys.executable, "-m", "snakemake", "--profile", "slurm", "--executor", "local", "--cores", "2"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert {word: (tmp_path / word).read_text() for word in words} == {"download_frames": "data", "make_cubes": "cpu"}
