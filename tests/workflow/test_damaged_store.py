"""What `sdss-photoz verify` finds in a finished run is healed by the command that it prints, byte for byte."""

import re

from sdss_photoz.app.cli import main


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def heal(workflow, said):
    """Run the command that the sentence gives; the rules that it ran."""
    words = re.search(r"run snakemake --cores all (--force [^,]+), with", said)[1].split()
    done = workflow.run("--cores", "1", "--printshellcmds", *words, check=True)
    return set(re.findall(r"^Finished jobid: \d+ \(Rule: (\w+)\)", done.stdout + done.stderr, re.MULTILINE))


def test_the_command_that_verify_prints_heals_the_store(tiny, tmp_path, monkeypatch, capsys):
    workflow = tiny.copy(tmp_path / "work")
    monkeypatch.chdir(workflow.directory)
    store = workflow.results.relative_to(workflow.directory) / "cubes.zarr"
    before = {folder: contents(folder) for folder in (store, store.parent / "cubes")}
    assert main(["verify", str(store)]) == 0

    shard = store / "flux" / "c" / "1" / "0" / "0" / "0"
    shard.write_bytes(shard.read_bytes()[:-1])
    (store.parent / "cubes" / "quality-0.parquet").unlink()
    assert main(["verify", str(store)]) == 1
    assert heal(workflow, capsys.readouterr().err) == {"make_cubes"}
    assert main(["verify", str(store)]) == 0

    (store / "ra" / "c" / "0").unlink()
    (store / "flux" / "zarr.json").write_text("{}")
    assert main(["verify", str(store)]) == 1
    assert heal(workflow, capsys.readouterr().err) == {"create_store"}
    assert main(["verify", str(store)]) == 0

    assert {folder: contents(folder) for folder in before} == before
    workflow.run("--touch", "--cores", "1", check=True)
    done = workflow.run("-n", check=True)
    assert "Nothing to be done" in done.stdout + done.stderr
