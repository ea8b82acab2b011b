"""A catalogue of a small synthetic sky, written once, and the folder of an archive that can be served."""

import bz2

import numpy as np
import pytest
from astropy.io import fits
from tests.embedded import synthetic_sky

from sdss_photoz.embedded.database import write_catalog
from sdss_photoz.survey import Frame


@pytest.fixture(scope="session")
def sky():
    """Fields and objects."""
    fields = synthetic_sky.make_fields(4)
    return fields, synthetic_sky.make_objects(fields, 200)


@pytest.fixture(scope="session")
def catalog(sky, tmp_path_factory):
    """The written catalogue."""
    path = tmp_path_factory.mktemp("catalog") / "catalog.duckdb"
    write_catalog(path, *sky, seed=1)
    return path


@pytest.fixture(scope="session")
def frame(sky):
    """One frame of the synthetic sky."""
    field = sky[0].iloc[0]
    return Frame(int(field.run), int(field.camcol), int(field.field), "r")


@pytest.fixture(scope="session")
def archive_folder(catalog, frame, tmp_path_factory):
    """The catalogue, and a small image at the frame's place."""
    folder = tmp_path_factory.mktemp("archive")
    (folder / "catalog.duckdb").symlink_to(catalog)
    path = folder / "sas" / frame.path()
    path.parent.mkdir(parents=True)
    image = fits.PrimaryHDU(np.random.default_rng(1).normal(size=(200, 300)).astype(np.float32))
    image.writeto(path.with_suffix(""))
    path.write_bytes(bz2.compress(path.with_suffix("").read_bytes()))
    path.with_suffix("").unlink()
    return folder
