"""Objects on cutouts have the fluxes and the positions that the survey's own photometry gave them."""

import bz2
import io
import warnings

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from photutils.aperture import ApertureStats, CircularAperture, aperture_photometry

from sdss_photoz.cubes.cutouts import cutouts
from sdss_photoz.cubes.store import open_store

RADII = {3: 4.406, 4: 7.506, 5: 11.576}  # pixels: of the survey's apertures, by their place in APERFLUX
CENTRE = (31.5, 31.5)
FAINTEST, BRIGHT = 1, 10  # nanomaggies within 7.5 pixels


def aperture_fluxes(image, centre):
    """Sums within the survey's apertures, pixels on the rim by the area that lies inside."""
    table = aperture_photometry(image, [CircularAperture(centre, radius) for radius in RADII.values()])
    return [table[f"aperture_sum_{k}"][0] for k in range(len(RADII))]


@pytest.fixture(scope="module")
def objects(shared_data):
    """Catalogue of field 3900-6-269: primary objects that are not blends, bright enough in u to be measured."""
    table = fits.getdata(shared_data / "catalog" / "photoObj-003900-6-0269.fits")
    fluxes = table["APERFLUX"][:, 0]
    return table[(table["MODE"] == 1) & (table["NCHILD"] == 0) & (fluxes[:, 4] > FAINTEST)]


@pytest.fixture(scope="module")
def images(objects, shared_data, tmp_path_factory):
    """Their cutouts in u, (object, y, x)."""
    store = tmp_path_factory.mktemp("sky") / "cubes.zarr"
    positions = pd.DataFrame({"ra": objects["RA"], "dec": objects["DEC"]})
    cutouts(positions, shared_data / "sas/dr12/boss/photoObj/frames/301/3900", store)
    return open_store(store)["flux"][:, :, :, 0].astype(float)


@pytest.fixture(scope="module")
def measured(images):
    """Their fluxes, (object, aperture), nanomaggies."""
    return np.array([aperture_fluxes(image, CENTRE) for image in images])


def test_aperture_fluxes_are_those_of_the_survey(objects, images, measured, capsys):
    assert len(objects) > 200
    assert np.isfinite(images).all()
    ratios = measured / objects["APERFLUX"][:, 0, list(RADII)]
    medians = np.median(ratios, axis=0)
    with capsys.disabled():
        figures = ", ".join(
            f"{ratio:.4f} ({radius} pixels)" for ratio, radius in zip(medians, RADII.values(), strict=True)
        )
        print(f"\n{len(objects)} objects: flux over APERFLUX {figures}", end=" ")
    np.testing.assert_allclose(medians, 1, rtol=0, atol=0.02)


def test_bright_objects_are_centred(objects, images, capsys):
    bright = objects["APERFLUX"][:, 0, 4] > BRIGHT
    inside = CircularAperture(CENTRE, RADII[3])
    offsets = np.array([ApertureStats(image, inside).centroid - CENTRE for image in images[bright]])
    x, y = np.median(offsets, axis=0)
    with capsys.disabled():
        print(f"\n{bright.sum()} bright objects: off the centre by {x:+.3f} (x), {y:+.3f} (y) pixels", end=" ")
    assert bright.sum() > 20
    assert abs(x) < 0.1
    assert abs(y) < 0.1


def test_resampling_keeps_the_flux_of_objects(objects, measured, shared_data, capsys):
    """The same apertures on the frame as it is, where astropy puts each object."""
    path = shared_data / "sas/dr12/boss/photoObj/frames/301/3900/6/frame-u-003900-6-0269.fits.bz2"
    with fits.open(io.BytesIO(bz2.decompress(path.read_bytes()))) as hdus, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the survey's deprecated spellings
        frame, wcs = hdus[0].data.astype(float), WCS(hdus[0].header)
    pixels = np.transpose(wcs.wcs_world2pix(objects["RA"], objects["DEC"], 0))
    ratios = measured / [aperture_fluxes(frame, pixel) for pixel in pixels]
    bright = objects["APERFLUX"][:, 0, 4] > BRIGHT
    medians, worst = np.median(ratios[bright], axis=0), np.abs(ratios[bright] - 1).max()
    with capsys.disabled():
        print(f"\nflux on cutouts over flux on the frame: {np.round(medians, 5)}, at worst {worst:.4f} off", end=" ")
    np.testing.assert_allclose(medians, 1, rtol=0, atol=1e-3)
    assert worst < 0.02
