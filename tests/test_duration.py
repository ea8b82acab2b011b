"""What a cluster is asked for grows with the frames of a chunk, and with the galaxies of the run."""

import json

import pandas as pd
import pytest

from sdss_photoz.config import Cubes, Training
from sdss_photoz.duration import DEFAULT_MINUTES, frames_of_chunk, minutes_to_cut, minutes_to_fetch
from sdss_photoz.training.resources import memory_to_predict, memory_to_train, minutes_to_predict, minutes_to_train
from tests.fixtures.workflow import asked


def test_a_chunk_of_stripe_82_has_the_time_that_its_frames_need():
    """One of the whole sky has 6,000 frames, which take half an hour of one thread at 0.3 s each."""
    assert 1.5 * 30 < minutes_to_cut(6_000) < 4 * 30
    assert 1.5 * 325 < minutes_to_cut(65_000) < 24 * 60  # a usual limit of a partition
    assert minutes_to_cut(65_000, threads=2) < 0.6 * minutes_to_cut(65_000)
    assert minutes_to_cut(65_000, attempt=2) == 2 * minutes_to_cut(65_000)
    assert minutes_to_cut(65_000, fetched=True) == minutes_to_cut(65_000) + minutes_to_fetch(65_000)
    assert minutes_to_fetch(65_000) > 65_000 * 3 / 2 / 60  # at 2 MB a second
    assert [minutes_to_cut(0) > 0, minutes_to_fetch(0) > 30] == [True, True]


@pytest.mark.parametrize("text", [None, "", "{}", '{"frames": 3}'])
def test_there_is_a_time_while_there_is_no_plan(tmp_path, text):
    plan = tmp_path / "plan.json"
    if text is not None:
        plan.write_text(text)
    assert frames_of_chunk(plan, 3) is None
    assert minutes_to_cut(None) == minutes_to_fetch(None) == DEFAULT_MINUTES
    assert minutes_to_cut(None, attempt=3) == 3 * DEFAULT_MINUTES


def test_rules_ask_for_the_frames_of_their_chunks_manifest_and_for_the_galaxies_of_the_run(tiny, tmp_path):
    """Shown on a plan that was made larger: the numbers of a real one are those of the manifests."""
    manifests = tiny.results / "archive" / "frames"
    plan = tiny.results / "archive" / "plan.json"
    for chunk in (0, 1):
        assert frames_of_chunk(plan, str(chunk)) == len(pd.read_parquet(manifests / f"chunk-{chunk}.parquet"))
    copy = tiny.copy(tmp_path / "copy")
    counted = json.loads(plan.read_text())
    counted["frames_by_chunk"]["1"] = 65_000
    (copy.results / "archive" / "plan.json").write_text(json.dumps(counted))
    found = asked(copy, tmp_path / "without_messages", "-n", "all", "--forcerun", "download_frames")
    for chunk, frames in ((0, frames_of_chunk(plan, 0)), (1, 65_000)):
        assert found["make_cubes", f"chunk={chunk}"]["runtime"] == minutes_to_cut(frames)
        assert found["make_cubes", f"chunk={chunk}"]["mem_mb"] == 1000 * Cubes().memory_gb
        assert found["download_frames", f"chunk={chunk}"]["runtime"] == minutes_to_fetch(frames)
    galaxies, settings = len(pd.read_parquet(tiny.results / "sample" / "galaxies.parquet")), Training(epochs=2)
    trained, predicted = (
        found["train_member", "trial=images, fold=0, member=0"],
        found["predict_fold", "trial=images, fold=1"],
    )
    assert trained["mem_mb"] == memory_to_train(galaxies, settings)
    assert trained["runtime"] == minutes_to_train(galaxies, settings)
    assert predicted["mem_mb"] == memory_to_predict(galaxies, settings, members=1, folds=2)
    assert predicted["runtime"] == minutes_to_predict(galaxies, settings, members=1, folds=2)
