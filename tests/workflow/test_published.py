"""The whole workflow from the published cubes: same outputs, no frames."""

import json
import os

import numpy as np
import pandas as pd
import pytest
from tests.fixtures.synthetic_npz import labels_of, write_npz
from tests.workflow.test_blast_radius import PUBLISHED, SAMPLE, rules_to_run, setting

from sdss_photoz.cubes.load import load_cubes


class PublishedRun:
    """A copy of the tiny run with a published file of its galaxies, and the config keys that name it."""

    def __init__(self, tiny, folder):
        self.workflow = tiny.copy(folder / "work")
        self.rows = pd.read_parquet(tiny.results / "archive" / "galaxies.parquet")
        galaxies = pd.read_parquet(tiny.results / "sample" / "galaxies.parquet")
        galaxies = galaxies.sample(frac=1, random_state=4).reset_index(drop=True)
        self.absent, galaxies = galaxies["spec_id"][:3], galaxies[3:].reset_index(drop=True)
        self.cubes = load_cubes(tiny.results / "cubes.zarr", galaxies["row"])
        self.bad = galaxies["spec_id"][(self.cubes == 0).all(axis=(1, 2)).any(axis=1)]  # no frame in one of the bands
        self.labels = labels_of(
            len(galaxies),
            specObjID=galaxies["spec_id"],
            z=galaxies["z_spec"],
            dered_petro_r=galaxies["dered_petro_r"],
            EBV=galaxies["ebv"],
        )
        self.labels["z"][[5, 6]] += 0.001
        self.labels["dered_petro_r"][7] -= 0.01
        self.path = folder / "sdss.npz"
        self.write()

    def write(self, **options):
        """Write the published file."""
        write_npz(self.path, cube=self.cubes, labels=self.labels, **options)

    @property
    def settings(self):
        """The keys, as `--config` takes them."""
        return f"cubes={{source: published, published: {self.path}}}"


@pytest.fixture(scope="module")
def run(tiny, tmp_path_factory):
    return PublishedRun(tiny, tmp_path_factory.mktemp("published"))


@pytest.fixture(scope="module")
def finished(run):
    assert rules_to_run(run.workflow, run.settings) == PUBLISHED
    run.done = run.workflow.run("--cores", "2", config=[run.settings], check=True)
    return run


def test_no_frame_is_fetched_and_no_field_asked_for(finished):
    assert "download_frames" not in finished.done.stdout + finished.done.stderr
    assert "query_fields" not in finished.done.stdout + finished.done.stderr
    assert rules_to_run(finished.workflow, finished.settings) == set()


def test_cubes_of_the_store_are_the_published_ones_bit_for_bit(finished):
    galaxies = pd.read_parquet(finished.workflow.results / "sample" / "galaxies.parquet")
    place = pd.Series(range(len(finished.labels)), index=finished.labels["specObjID"].astype(np.uint64))
    stored = load_cubes(finished.workflow.results / "cubes.zarr", galaxies["row"])
    assert len(stored) > 100
    assert stored.tobytes() == finished.cubes[place[galaxies["spec_id"]]].tobytes()
    quality = pd.concat(map(pd.read_parquet, sorted((finished.workflow.results / "cubes").glob("quality-*.parquet"))))
    assert quality["object_id"].tolist() == galaxies["object_id"].tolist()


def test_galaxies_without_a_good_published_cube_are_counted(finished):
    counts = pd.read_csv(finished.workflow.results / "sample" / "counts.csv").set_index("cut")
    galaxies = pd.read_parquet(finished.workflow.results / "sample" / "galaxies.parquet")
    assert counts["galaxies"]["in the published cubes"] == len(finished.labels)
    assert counts["removed"]["good published cube"] == len(finished.bad)
    assert not galaxies["spec_id"].isin([*finished.absent, *finished.bad]).any()


def test_labels_that_are_not_the_archives_are_listed_warned_of_and_reported(finished):
    listed = pd.read_csv(finished.workflow.results / "sample" / "published.csv")
    assert listed["label"].value_counts().to_dict() == {"z_spec": 2, "dered_petro_r": 1}
    assert set(listed["spec_id"]) == set(finished.labels["specObjID"][5:8])
    log = (finished.workflow.results / "logs" / "compare_labels.log").read_text()
    assert "warning: z_spec of 2 published cubes differs from the archive's by more than 1e-05, at most by 0.001" in log
    page = (finished.workflow.results / "report" / "index.html").read_text()
    assert "from the archive&rsquo;s catalogue and the published cubes" in page
    assert '<th scope="row">z_spec</th><td>1e-05</td><td>2</td><td>0.001</td>' in page


def test_a_changed_file_is_noticed_and_read_again(finished):
    place = json.loads((finished.workflow.results / "archive" / "published.json").read_text())
    finished.write(deflated=True)
    try:
        assert rules_to_run(finished.workflow, finished.settings) == PUBLISHED
    finally:
        finished.write()
        os.utime(finished.path, (1, 1))
    assert rules_to_run(finished.workflow, finished.settings) == set()
    assert place["bytes"] == finished.path.stat().st_size


def test_back_to_frames_everything_is_made_anew(finished):
    assert rules_to_run(finished.workflow, setting("cubes.source", "frames")) == SAMPLE | {"plan_frames"}


def test_a_published_file_that_is_not_there_is_one_sentence(tiny):
    done = tiny.run("-n", config=["cubes={source: published, published: /nowhere/sdss.npz}"])
    assert done.returncode
    said = done.stdout + done.stderr
    assert "Configuration: cubes.published: /nowhere/sdss.npz cannot be read (No such file" in said
    assert "Traceback" not in said
