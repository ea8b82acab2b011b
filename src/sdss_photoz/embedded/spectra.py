"""The spectroscopic survey of the simulated sky: good and defective spectra of its objects."""

import numpy as np
import pandas as pd

FIBERS = 640  # of a plate of the SDSS-I spectrographs
DEFECT_FRACTION = 0.002  # of the targets have each kind of defect; at least one of each kind
REPEAT_FRACTION = 0.03  # of the targets are observed twice
_DEFECTS = (  # a target has at most one, so that each cut of the query is tested alone
    *("zWarning", "no redshift", "boss", "calibration", "not a main target", "not clean", "masked", "no photoz"),
    *("no galSpecInfo", "no petro r", "no petro u", "no model u", "two primaries"),
)


def draw_defects(count: int, rng) -> dict[str, np.ndarray]:
    """Draw the targets that have each kind of defect.

    Parameters
    ----------
    count : int
        Number of targets.
    rng : numpy.random.Generator

    Returns
    -------
    dict of str to array of int
        Indices of targets, disjoint between kinds.
    """
    each = max(1, round(DEFECT_FRACTION * count))
    if each * len(_DEFECTS) > count:
        raise ValueError(f"{count} targets are too few for {len(_DEFECTS)} kinds of unwanted rows")
    return dict(zip(_DEFECTS, rng.permutation(count)[: each * len(_DEFECTS)].reshape(-1, each), strict=True))


def _plates(table, rng, first):
    """Return plate, date and fiber of each row: neighbours on the sky share a plate, fibers are random."""
    rank = np.empty(len(table), dtype=np.int64)
    rank[np.lexsort((table["ra"], np.round(table["dec"])))] = np.arange(len(table))
    plate = first + rank // FIBERS
    fiber = np.empty(len(table), dtype=np.int64)
    for number in np.unique(plate):
        on_plate = plate == number
        fiber[on_plate] = rng.permutation(FIBERS)[: on_plate.sum()] + 1
    return plate, 51600 + plate, fiber


def spec_object_id(plate, fiber, mjd, run2d=26):
    """Pack the survey's 64-bit identifier of a spectrum (``SpecObjAll.specObjID``), int64."""
    plate, fiber, mjd = (np.asarray(part, dtype=np.int64) for part in (plate, fiber, mjd))
    return (plate << 50) | (fiber << 38) | ((mjd - 50000) << 24) | (np.int64(run2d) << 10)


def _spectra(objects, rng, first_plate):
    """Return a good spectrum of each object."""
    n = len(objects)
    plate, mjd, fiber = _plates(objects, rng, first_plate)
    star = objects["type"].to_numpy() == 6
    error = rng.lognormal(np.log(1.6e-5), 0.35, n)
    z = np.where(star, rng.normal(0, 1.5e-4, n), objects["z_true"].to_numpy(float)) + error * rng.normal(size=n)
    lines = rng.choice(["STARFORMING", "STARBURST", "AGN", "BROADLINE", ""], n, p=[0.55, 0.1, 0.1, 0.02, 0.23])
    quiet = np.where(rng.random(n) < 0.05, "AGN", "")
    subclass = np.where(star, "G2", np.where(objects["red"].to_numpy(bool), quiet, lines))
    return pd.DataFrame(
        {
            "specObjID": spec_object_id(plate, fiber, mjd),
            **{name: objects["objID"].to_numpy() for name in ("bestObjID", "fluxObjID")},
            **{"plateID": spec_object_id(plate, 0, mjd), "plate": plate, "mjd": mjd, "fiberID": fiber},
            **{"sciencePrimary": 1, "legacyPrimary": 1, "zWarning": 0, "run2d": "26"},
            **{"survey": "sdss", "instrument": "SDSS", "programname": "legacy", "sourceType": "GALAXY"},
            **{"targetType": "SCIENCE", "class": np.where(star, "STAR", "GALAXY"), "subClass": subclass},
            **{"ra": objects["ra"].to_numpy(), "dec": objects["dec"].to_numpy(), "z": z, "zErr": error},
            "velDisp": np.where(star, 0, np.clip(rng.normal(150, 50, n), 30, 500)),
            "snMedian_r": np.clip(rng.normal(18, 6, n), 2, None),
            "primtarget": rng.choice([64, 64, 64, 64, 96, 192], n),  # GALAXY, with GALAXY_RED or GALAXY_BIG
        }
    )


def make_spectra(objects: pd.DataFrame, defects: dict[str, np.ndarray], rng) -> pd.DataFrame:
    """Draw spectra of targets, their repeats, shreds, stars and faint galaxies, with every kind of row to reject.

    Parameters
    ----------
    objects : DataFrame
        Photometric objects with objID, type, kind ("target", "shred", "faint", "star"), z_true, ra, dec, red.
    defects : dict of str to array of int
        As returned by `draw_defects`: indices among the targets, in the order of `objects`.
    rng : numpy.random.Generator

    Returns
    -------
    DataFrame
        Columns of ``SpecObjAll``, and ``primtarget`` of ``galSpecInfo``.
    """
    kind = objects["kind"].to_numpy()
    targets = objects[kind == "target"].reset_index(drop=True)
    spectra = _spectra(targets, rng, 266)

    def change(name, **values):
        for column, value in values.items():
            spectra.loc[defects[name], column] = value

    change("zWarning", zWarning=4)
    change("no redshift", z=-rng.random(len(defects["no redshift"])) * 1e-4)
    change("boss", survey="boss", instrument="BOSS", run2d="v5_7_0", programname="boss")
    change("calibration", targetType="STANDARD")
    change("not a main target", primtarget=rng.choice([2, 32], len(defects["not a main target"])))
    spectra.loc[defects["no redshift"][:1], "z"] = 0.0

    again = np.flatnonzero(rng.random(len(targets)) < REPEAT_FRACTION)
    again = np.union1d(again, defects["two primaries"])
    repeats = _spectra(targets.loc[again].reset_index(drop=True), rng, 1200)
    both = np.isin(again, defects["two primaries"])
    repeats["sciencePrimary"] = np.where(both, 1, 0)
    repeats["legacyPrimary"] = repeats["sciencePrimary"]

    shreds = _spectra(objects[kind == "shred"].reset_index(drop=True), rng, 1500)
    # faint galaxies and stars are mostly targets of other programmes, without a flag of the main sample
    others = objects[(kind == "faint") | (kind == "star")].reset_index(drop=True)
    others = others[rng.random(len(others)) < 0.15].reset_index(drop=True)
    extra = _spectra(others, rng, 1800)
    extra["primtarget"] = np.where(rng.random(len(extra)) < 0.3, extra["primtarget"], 32)
    quasar = (extra["class"] == "GALAXY") & (rng.random(len(extra)) < 0.05)
    extra.loc[quasar, ["class", "subClass"]] = ["QSO", "BROADLINE"]
    return pd.concat([spectra, repeats, shreds, extra], ignore_index=True)
