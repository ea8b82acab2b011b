"""The benchmark of training runs whole, where torch and numpy are installed and nothing else."""

import json
import re
import subprocess
import sys
from importlib.metadata import packages_distributions, requires

import pytest

RUN = "import runpy, sys; sys.modules.update(dict.fromkeys({blocked!r})); sys.argv = {words!r}; "
RUN += "sys.path.insert(0, 'benchmarks'); runpy.run_path('benchmarks/training.py', run_name='__main__')"


def _with_torch_alone() -> set[str]:
    """Modules that are installed here and would not be beside torch and numpy."""
    needed = {"torch", "numpy", "mpmath", "markupsafe", "setuptools", "sdss-photoz"}  # two of them by sympy and jinja2
    needed |= {re.match(r"[\w.-]+", line)[0] for line in requires("torch") or () if "extra ==" not in line}
    needed = {name.replace("_", "-").lower() for name in needed}
    return {
        module
        for module, names in packages_distributions().items()
        if module.isidentifier() and not {name.replace("_", "-").lower() for name in names} & needed
    }


def _run(root, out, phases, blocked=()):
    words = ["training.py", "--quick", "--device", "cpu", "--out", str(out), *phases]
    code = RUN.format(blocked=sorted(blocked), words=words)
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    tables = {record["name"]: record["table"] for record in json.loads((out / "training.json").read_text())}
    return done.stdout, tables


def test_all_phases_run_with_torch_and_numpy_alone(root, tmp_path):
    blocked = _with_torch_alone()
    assert {"pandas", "pyarrow", "zarr", "pydantic", "yaml", "scipy", "astropy", "tqdm", "safetensors"} <= blocked
    stdout, tables = _run(root, tmp_path, (), blocked)
    assert "restart is left out" in stdout
    assert tables.keys() >= {"ceilings", "layers", "ladder", "residence", "parity", "parity-curves", "inference"}
    assert tables["ladder"][0]["form"] == "plain float32"
    for row in tables["parity"]:
        assert abs(row["validation_loss_difference"]) < 1e-3
        assert row["verdict"] == "fail", "two steps teach nothing, and so prove nothing"
    page = (tmp_path / "training.md").read_text()
    assert all(f"--phase {name} --quick" in page for name in tables if name != "parity-curves")


@pytest.mark.slow
def test_the_benchmark_kills_a_training_and_finds_its_bytes_again(root, tmp_path):
    _, tables = _run(root, tmp_path, ["--phase", "restart"])
    assert [row["same_bytes"] for row in tables["restart"]] == ["yes"]


def test_parity_passes_where_differences_are_noise_and_fails_where_a_form_learns_worse(root, monkeypatch):
    monkeypatch.syspath_prepend(str(root / "benchmarks"))
    from training_parity import PLAIN, STEPS, compare

    def curves(offset):
        noise = (0.004, -0.003, 0.002, -0.004)
        return [
            {"form": name, "seed": seed, "step": STEPS, "validation_loss": 3.6 + shift, "sigma_mad": 0.02 + shift / 100}
            for seed, wobble in enumerate(noise)
            for name, shift in ((PLAIN.name, 0.0), ("fast", wobble + offset))
        ]

    assert compare(curves(0.0), "fast", 4.5)["verdict"] == "pass"
    assert compare(curves(0.01), "fast", 4.5)["verdict"] == "fail", "more than two standard errors"
    assert compare(curves(0.0), "fast", 4.0)["verdict"] == "fail", "not 0.5 below the entropy"
