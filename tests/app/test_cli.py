"""The command line: help for every command, one sentence for what a user can mend."""

import subprocess
import sys

import pytest

from sdss_photoz.app import cli


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_command_explains_itself(command, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main([command, "--help"])
    assert stopped.value.code == 0
    assert "usage: sdss-photoz" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words",
    [
        ["evaluate", "missing.csv", "--z-spec", "z", "--z-phot", "zp"],
        ["cutouts", "missing.csv", "--frames", ".", "--out", "cubes.zarr"],
    ],
)
def test_a_missing_table_is_one_sentence_without_a_traceback(words, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "sdss_photoz.app.cli", *words], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert "missing.csv" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())
