"""A job computes what was planned, whatever the configuration and the code say by the time it starts."""

import os
import subprocess

import pandas as pd
import pytest
import yaml

from sdss_photoz import import_path
from sdss_photoz.config import load
from sdss_photoz.config.frozen import VARIABLE, plan_of, read_plan, write_plan
from sdss_photoz.errors import UserError

VERSIONS = {"sample": 3, "training": 5}


@pytest.fixture
def planned(tmp_path, monkeypatch, root):
    """The tiny run's configuration, whose plan the environment names."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(VARIABLE, "")  # put back at the end of the test
    config = load(root / "tests" / "tiny.yaml")
    return config, write_plan(config, VERSIONS)


@pytest.mark.parametrize("name", ["config.yaml", "config/sdss-dr12.yaml", "config/sdss-tile.yaml"])
def test_a_plan_read_back_is_the_configuration_to_the_last_key(name, root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(VARIABLE, "")
    config = load(root / name)
    write_plan(config, VERSIONS)
    assert read_plan(VERSIONS) == config


def test_another_configuration_has_another_plan_and_the_same_one_the_same(planned):
    config, path = planned
    assert write_plan(config, VERSIONS) == path
    assert write_plan(config.model_copy(update={"run": "tiny2"}), VERSIONS).name != path.name


def test_a_job_whose_code_has_another_version_refuses(planned):
    with pytest.raises(UserError, match="training is version 6, but the run was planned with version 5"):
        read_plan(VERSIONS | {"training": 6})


def test_a_job_without_a_plan_refuses(planned, monkeypatch):
    _, path = planned
    monkeypatch.delenv(VARIABLE)
    with pytest.raises(UserError, match="sbatch --export=ALL"):
        read_plan(VERSIONS)
    monkeypatch.setenv(VARIABLE, str(path.with_name("other.yaml")))
    with pytest.raises(UserError, match="No such file or directory"):
        read_plan(VERSIONS)


def test_a_plan_that_was_edited_is_refused(planned):
    _, path = planned
    path.write_text(path.read_text().replace("epochs: 2", "epochs: 3"))
    with pytest.raises(UserError, match="is not what its name says"):
        read_plan(VERSIONS)


def test_snakemake_writes_the_plan_of_the_run_it_starts(tiny):
    (path,) = (tiny.results / "plans").glob("*.yaml")
    plan = yaml.safe_load(path.read_text())
    assert plan == plan_of(load(tiny.configfile), plan["versions"])


def test_a_job_that_starts_after_an_edit_trains_what_was_planned(tiny, tmp_path):
    workflow = tiny.copy(tmp_path / "work")
    (plan,) = (workflow.results / "plans").glob("*.yaml")
    model = workflow.results / "training/images/fold-0/member-0.safetensors"
    expected = model.read_bytes()
    edited = workflow.directory / "tiny.yaml"
    edited.write_text(tiny.configfile.read_text().replace("epochs: 2", "epochs: 1"))
    workflow.configfile = edited

    def job(environment):  # as an executor starts it on another node
        words = ["--mode", "remote", "--target-jobs", "train_member:trial=images,fold=0,member=0", "--nolock"]
        command = workflow.command(*words, "--cores", "1", "--force", "--allowed-rules", "train_member")
        return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment})

    model.unlink()
    refused = job({})
    assert refused.returncode == 1
    assert "SDSS_PHOTOZ_PLAN is not set" in refused.stderr
    done = job({VARIABLE: str(plan)})
    assert done.returncode == 0, done.stderr
    assert pd.read_csv(model.with_name("member-0.history.csv"))["epoch"].nunique() == 2
    assert model.read_bytes() == expected


def test_a_plan_holds_the_source_of_an_own_network_and_where_it_is_found(tmp_path, monkeypatch):
    """The job starts in another process, which was told nothing of the configuration's folder."""
    for variable in (VARIABLE, import_path.VARIABLE):
        monkeypatch.setenv(variable, "")
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    module = folder / "planned_network.py"
    module.write_text("class Network: pass\n")
    (folder / "my.yaml").write_text("training: {network: 'planned_network:Network'}\n")
    config = load(folder / "my.yaml")
    write_plan(config, VERSIONS)
    monkeypatch.setenv(import_path.VARIABLE, "")
    assert read_plan(VERSIONS) == config
    module.write_text("class Network: edited = True\n")
    with pytest.raises(UserError, match="the source of planned_network:Network was edited while this job waited"):
        read_plan(VERSIONS)
