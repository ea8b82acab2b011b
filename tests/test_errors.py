"""What a user can mend reaches the terminal as one sentence, through Snakemake, before hours are spent."""

import bz2

import pandas as pd


def sentence(done, rule):
    """The line that a rule's script printed for the user."""
    lines = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith(f"{rule}: ")]
    assert done.returncode != 0
    assert lines, done.stdout + done.stderr
    return lines[0]


def test_a_catalogue_without_a_needed_column_is_named(tiny, tmp_path):
    workflow = tiny.copy(tmp_path / "work")
    table = workflow.results / "archive" / "galaxies.parquet"
    pd.read_parquet(table).drop(columns="zErr").to_parquet(table)
    done = workflow.run("--cores", "1", "--until", "select_galaxies", "--rerun-triggers", "mtime")
    message = sentence(done, "select_galaxies")
    assert "column zErr" in message
    assert "Traceback" not in done.stdout + done.stderr.split("Error in rule")[0]


def test_an_empty_query_result_is_one_sentence(tiny, tmp_path):
    import duckdb

    workflow = tiny.copy(tmp_path / "work")
    with duckdb.connect(str(workflow.results / "archive" / "catalog.duckdb")) as catalog:
        catalog.execute("DELETE FROM SpecObjAll")
    done = workflow.run("--cores", "1", "--until", "query_galaxies", "--rerun-triggers", "mtime")
    message = sentence(done, "query_galaxies")
    assert "no " in message


def test_a_fold_without_galaxies_is_one_sentence_that_names_the_key(tiny, tmp_path):
    workflow = tiny.copy(tmp_path / "work")
    done = workflow.run(
        "--cores", "1", "--until", "assign_folds", config=["trials={images: {folds: {count: 50, by: sky}}}"]
    )
    message = sentence(done, "assign_folds")
    assert "fold" in message
    assert "count" in message or "by" in message


def test_a_damaged_frame_is_named_with_its_file(tiny, tmp_path):
    workflow = tiny.copy(tmp_path / "work")
    frame = sorted((workflow.results / "archive" / "sas").rglob("frame-r-*.bz2"))[0]
    frame.write_bytes(bz2.compress(b"<html>down for maintenance</html>"))
    done = workflow.run("--cores", "1", "--forcerun", "download_frames", "--until", "make_cubes")
    text = done.stdout + done.stderr
    assert done.returncode != 0
    assert frame.name in text
    assert "Traceback" not in text.split("Error in rule")[0]
