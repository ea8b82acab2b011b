"""What a network reads of a galaxy, beside astropy, scipy and by hand."""

import json
import math

import numpy as np
import pandas as pd
import pytest
import torch
from astropy.nddata import block_reduce
from scipy import stats

from sdss_photoz.errors import UserError
from sdss_photoz.inputs.augmentation import Augmentation
from sdss_photoz.inputs.inputs import Inputs
from sdss_photoz.inputs.symmetry import transform
from sdss_photoz.surveys import CUBE


@pytest.fixture
def galaxies():
    """Six galaxies with magnitudes."""
    random = np.random.default_rng(2)
    return pd.DataFrame(
        {
            "object_id": 100 + np.arange(6),
            "ebv": np.linspace(0.01, 0.06, 6),
            "model_mag_g": random.uniform(17, 19, 6),
            "model_mag_r": random.uniform(16, 18, 6),
            "psf_fwhm_r": random.uniform(1, 2, 6),
        }
    )


CUBES = np.random.default_rng(3).normal(size=(2, *CUBE.shape)).astype(np.float32)


def test_an_image_is_the_middle_of_the_cube_in_its_bands_added_up_over_squares():
    inputs = Inputs(stretch="none", bands="gri", size=60, rebin=2)
    found = inputs.images(torch.from_numpy(inputs.cut(CUBES))).numpy()
    middle = CUBES[:, 2:62, 2:62, 1:4]
    assert found == pytest.approx(block_reduce(middle, (1, 2, 2, 1), func=np.sum), abs=1e-5)
    assert found.shape == (2, *inputs.shape) == (2, 30, 30, 3)
    assert inputs.grid == CUBE._replace(size=30, pixel_scale=2 * CUBE.pixel_scale, bands=("g", "r", "i"))


def test_the_noise_of_added_pixels_is_that_of_their_sum():
    noise = np.random.default_rng(0).normal(0, np.array(Inputs().noise), (1, 512, 512, 5))
    assert Inputs(rebin=4).noise == pytest.approx(block_reduce(noise, (1, 4, 4, 1)).std((0, 1, 2)), rel=0.02)


@pytest.mark.parametrize("size", [None, 28])
def test_crop_and_symmetry_are_one_read_by_index(size):
    inputs = Inputs(stretch="none", size=size)
    flat = torch.from_numpy(CUBES).flatten(1, 2)
    for symmetry, pixels in enumerate(torch.from_numpy(inputs.pixels("part"))):
        read = flat[:, pixels].unflatten(1, inputs.shape[:2])
        assert torch.equal(read, transform(torch.from_numpy(inputs.cut(CUBES)), symmetry))


def test_a_record_gives_the_same_inputs_and_is_empty_for_the_defaults(galaxies):
    assert Inputs().record() == {}
    inputs = Inputs(
        bands="gri", size=32, rebin=2, channels=("g-r", "r"), numbers=("ebv", "psf_fwhm_r"), missing="mean"
    ).fitted(galaxies)
    record, scaling = json.loads(json.dumps([inputs.record(), inputs.scaling]))
    again = Inputs.recorded(CUBE, "asinh", record, scaling)
    assert again == inputs
    assert np.array_equal(again.rows(galaxies), inputs.rows(galaxies))


def test_numbers_are_standardised_over_the_training_galaxies_but_for_the_reddening(galaxies):
    inputs = Inputs(numbers=("ebv", "psf_fwhm_r", "model_mag_g - model_mag_r")).fitted(galaxies)
    colour = galaxies["model_mag_g"] - galaxies["model_mag_r"]
    expected = np.stack([galaxies["ebv"], stats.zscore(galaxies["psf_fwhm_r"]), stats.zscore(colour)], axis=1)
    found = inputs.rows(galaxies)
    assert found.dtype == np.float32
    assert found == pytest.approx(expected, abs=1e-6)
    others = galaxies.assign(psf_fwhm_r=galaxies["psf_fwhm_r"] + 1)  # of a test sample, by the training sample's scale
    shift = inputs.rows(others)[:, 1] - found[:, 1]
    assert shift == pytest.approx(np.full(6, 1 / galaxies["psf_fwhm_r"].std(ddof=0)), rel=1e-5)


def test_without_numbers_a_galaxy_has_none(galaxies):
    assert Inputs(numbers=()).fitted(galaxies).rows(galaxies).shape == (6, 0)


def test_galaxies_that_lack_a_number_are_refused_by_name_or_get_the_mean(galaxies, caplog):
    galaxies.loc[2, "psf_fwhm_r"] = math.nan
    with pytest.raises(UserError, match=r"object_id 102, whose psf_fwhm_r.* set inputs.missing to mean"):
        Inputs(numbers=("psf_fwhm_r",)).fitted(galaxies)
    inputs = Inputs(numbers=("psf_fwhm_r",), missing="mean").fitted(galaxies)
    inputs.warn_of_missing(galaxies)
    rows = inputs.rows(galaxies)[:, 0]
    assert rows[2] == 0
    assert np.delete(rows, 2) == pytest.approx(stats.zscore(galaxies["psf_fwhm_r"].dropna()), abs=1e-6)
    assert "1 of 6 galaxies lack psf_fwhm_r" in caplog.text


def test_a_galaxy_without_reddening_is_refused_whatever_is_said_of_missing_numbers(galaxies):
    galaxies.loc[2, "ebv"] = math.nan
    with pytest.raises(UserError, match=r"object_id 102, whose E\(B-V\) is not a number"):
        Inputs(missing="mean").rows(galaxies)


@pytest.mark.parametrize(
    ("number", "value", "said"),
    [
        ("psf_fwhm_r", 1.5, r"psf_fwhm_r, which is 1\.5 for all training galaxies: leave it out"),
        ("psf_fwhm_r", math.nan, r"psf_fwhm_r, which no training galaxy has: leave it out"),
        ("petro_r90", 1.0, r"petro_r90"),
    ],
)
def test_numbers_that_say_nothing_are_refused_in_a_sentence(galaxies, number, value, said):
    galaxies["psf_fwhm_r"] = value
    with pytest.raises(UserError, match=said):
        Inputs(numbers=(number,), missing="mean").fitted(galaxies)


def test_what_is_kept_in_memory_is_the_image_unless_each_visit_draws_another():
    still, moving = Inputs(channels="pairs"), Inputs(channels="pairs", augmentation=Augmentation(shift=2.0))
    assert len(still.kept(images=True).bands) == 15
    assert still.kept(images=False) == moving.kept(images=True) == CUBE
    assert moving.untouched().static
