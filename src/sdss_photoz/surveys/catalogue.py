"""Columns of the catalogue of galaxies: the archive's names and ours, and which ones the analysis needs."""

from collections.abc import Iterable

from sdss_photoz.errors import UserError
from sdss_photoz.surveys.sdss import SDSS

RENAMED = {  # the archive's names, in lower case, and ours
    **{"objid": "object_id", "specobjid": "spec_id", "ra": "ra", "dec": "dec", "z": "z_spec", "zerr": "z_err"},
    **{"e_bv_sfd": "ebv", "zphot": "z_archive", "run": "run", "camcol": "camcol", "field": "field", "stripe": "stripe"},
    "dered_petro_r": "dered_petro_r",
    **{
        f"{theirs.lower()}_{band}": f"{ours}_{band}"
        for theirs, ours in {
            **{"petroMag": "petro_mag", "petroMagErr": "petro_mag_err"},
            **{"modelMag": "model_mag", "modelMagErr": "model_mag_err"},
            **{"cModelMag": "cmodel_mag", "cModelMagErr": "cmodel_mag_err"},
            **{"extinction": "extinction", "petroR50": "petro_r50", "petroR90": "petro_r90"},
            **{"psffwhm": "psf_fwhm", "sky": "sky"},
        }.items()
        for band in SDSS.band_names
    },
    **{"expab_r": "exp_ab_r", "devab_r": "dev_ab_r", "fracdev_r": "frac_dev_r"},
    **{"neighbors": "n_neighbors", "subclass": "subclass"},
}
INTEGERS = {"run", "camcol", "field", "stripe", "n_neighbors"}
TEXTS = {"subclass"}
IDENTIFIERS = {"object_id": 2**62, "spec_id": 2**63}  # and a number of their size
NEEDED = (
    *("objID", "specObjID", "bestObjID", "sciencePrimary", "ra", "dec", "z", "zErr", "e_bv_sfd", "dered_petro_r"),
    *(f"{kind}_{band}" for kind in ("modelMag", "extinction") for band in SDSS.band_names),
)

_TAKEN = {*RENAMED.values(), "best_object", "science_primary", "row", "chunk"}


def names_of_others(columns: Iterable[str]) -> dict[str, str]:
    """Return the names in the sample of a query's columns that have none of ours: their own, in lower case.

    Raises
    ------
    UserError
        If such a column has the name of another column of the sample.
    """
    found = {}
    for column in columns:
        name = column.lower()
        if name in RENAMED or name in ("bestobjid", "scienceprimary"):
            continue
        if name in _TAKEN:
            raise UserError(
                f"the query's column {column} has the name of another column of the sample: give it one of its own, "
                f"as in {column} AS my_{name}."
            )
        found[column] = name
    return found


def example_row() -> dict[str, list]:
    """Return one row of the catalogue that the package's own query leads to, with values of each column's type."""
    values = {name: 1 if name in INTEGERS else 1.0 for name in RENAMED.values()}
    return {name: [value] for name, value in {**values, **dict.fromkeys(TEXTS, ""), **IDENTIFIERS}.items()}
