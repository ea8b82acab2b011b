"""What is the same on any processor, and whatever galaxies are taken together.

NumPy and OpenBLAS let one machine play another: they choose their loops by the processor's instructions, unless they
are told which it lacks. A machine without AVX-512 plays only what it can, and the tests say less there.
"""

import os
import subprocess
import sys

import numpy as np
import pytest
from numpy._core._multiarray_umath import __cpu_dispatch__ as DISPATCHED
from tests.conftest import ROOT

AVX512 = [name for name in DISPATCHED if name.startswith(("AVX512", "X86_V4"))]
PROCESSORS = {
    "this one": {},
    "without AVX-512": {"NPY_DISABLE_CPU_FEATURES": " ".join(AVX512), "OPENBLAS_CORETYPE": "Haswell"},
    "without any": {"NPY_DISABLE_CPU_FEATURES": " ".join(DISPATCHED), "OPENBLAS_CORETYPE": "Nehalem"},
}


OTHERS = [name for name in PROCESSORS if name != "this one"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """What `processors.py` makes on each kind of processor, by name."""
    folder = tmp_path_factory.mktemp("made")
    paths = {name: folder / f"{number}.npz" for number, name in enumerate(PROCESSORS)}
    for name, path in paths.items():
        done = subprocess.run(
            [sys.executable, "-m", "tests.cubes.processors", path],
            capture_output=True, text=True, cwd=ROOT, env={**os.environ, **PROCESSORS[name]},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    return {name: np.load(path) for name, path in paths.items()}


@pytest.mark.parametrize("processor", PROCESSORS)
def test_cubes_do_not_depend_on_which_galaxies_are_taken_together(made, processor):
    found = made[processor]
    for name in ("terms", "images"):
        for group in range(2):
            assert found[name].tobytes() == found[f"{name}-{group}"].tobytes(), name


@pytest.mark.parametrize("processor", OTHERS)
def test_frames_and_folds_are_those_of_any_other_processor(made, processor):
    for name in ("frames", "folds"):
        np.testing.assert_array_equal(made[processor][name], made["this one"][name])


@pytest.mark.parametrize("processor", OTHERS)
def test_pixels_are_those_of_any_other_processor_but_for_the_last_bits_of_a_few(made, processor):
    ours, theirs = made[processor]["images"], made["this one"]["images"]
    different = np.mean((ours != theirs) & ~(np.isnan(ours) & np.isnan(theirs)))
    print(f"{different:.1e} of the pixels differ", end=" ")
    assert different < 3e-3
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6)  # of a noise of 1; NaN where the other has it


@pytest.mark.parametrize("processor", OTHERS)
def test_a_simulated_sky_has_the_same_objects_as_on_any_other_processor_but_for_their_last_digits(made, processor):
    np.testing.assert_allclose(made[processor]["sky"], made["this one"]["sky"], rtol=1e-9, atol=1e-9)
