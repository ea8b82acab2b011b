"""Assignment of galaxies to folds by a hash: which train, validate and test each network.

Every galaxy belongs to a unit (itself, its group, or its cell of the sky) that is never divided. A hash of the unit's
id and the seed assigns it to a fold, and to training or validation, independently of the order of rows and of other
galaxies.
"""

from hashlib import blake2b

import numpy as np
import pandas as pd
from astropy import units
from astropy_healpix import HEALPix

from sdss_photoz.condition import chosen
from sdss_photoz.errors import UserError
from sdss_photoz.surveys.sphere import linked

SKY_CELLS = HEALPix(nside=16, order="nested")  # cells of 3.7 degrees


def _groups(galaxies, folds):
    """Smallest object id of each galaxy's group."""
    label = linked(galaxies["ra"], galaxies["dec"], folds.group_radius)
    return galaxies["object_id"].groupby(label).transform("min").to_numpy(np.int64)


def unit_ids(galaxies, folds):
    """Id of each galaxy's unit.

    Parameters
    ----------
    galaxies : DataFrame
        object_id, ra, dec (degrees).
    folds : config.Folds
        `by` and `group_radius`.

    Returns
    -------
    array of int64, shape (n,)
        The object id (by galaxy), the smallest object id of the group (by group), or the HEALPix cell, nested with
        NSIDE 16, of the group's galaxy with the smallest object id (by sky).
    """
    objects = galaxies["object_id"].to_numpy(np.int64)
    if folds.by == "galaxy":
        return objects
    groups = _groups(galaxies, folds)
    if folds.by == "group":
        return groups
    at = galaxies.set_index("object_id").loc[groups]
    cells = SKY_CELLS.lonlat_to_healpix(at["ra"].to_numpy() * units.deg, at["dec"].to_numpy() * units.deg)
    return cells.astype(np.int64)


def hash_uniform(ids, seed, purpose):
    """Uniform pseudorandom numbers in [0, 1) from a hash of id, seed and purpose.

    Parameters
    ----------
    ids : array of int64, shape (n,)
    seed : int
    purpose : str
        Numbers for different purposes are independent.

    Returns
    -------
    array of float64, shape (n,)
    """
    distinct, where = np.unique(ids, return_inverse=True)
    key = blake2b(f"{seed}/{purpose}".encode(), digest_size=32).digest()
    hashes = (blake2b(one.tobytes(), key=key, digest_size=8).digest() for one in distinct.astype("<i8"))
    numbers = np.frombuffer(b"".join(hashes), dtype="<u8") >> np.uint64(11)
    return (numbers * 2.0**-53)[where]


def in_region(galaxies, name, regions):
    """Whether each galaxy lies in a region (``NAME``) or outside of it (``not NAME``); all do for None."""
    if name is None:
        return np.ones(len(galaxies), dtype=bool)
    inside = regions[name.removeprefix("not ")].contains(galaxies["ra"].to_numpy(), galaxies["dec"].to_numpy())
    return ~inside if name.startswith("not ") else inside


def _train_fraction(folds, trainable, takes_part):
    """Fraction of the galaxies outside the fold (and in the training region) that train or validate."""
    if folds.train_fraction is None:
        return 1.0
    available = (1 - 1 / folds.count) * trainable[takes_part].mean()
    if folds.train_fraction > available * (1 + 1e-9):
        raise UserError(
            f"folds.train_fraction is {folds.train_fraction:g}, but only {available:.3g} of the sample lies outside "
            f"one of {folds.count} folds{' and in folds.train_in' if folds.train_in else ''}: "
            "lower it, or raise folds.count."
        )
    return folds.train_fraction / available


_REMEDY = {
    "test": "lower folds.count, deal by smaller units (folds.by) or widen folds.test_in",
    "train": "raise folds.train_fraction, lower folds.validation_fraction or widen folds.train_in",
    "validation": "raise folds.validation_fraction or folds.train_fraction, or deal by smaller units (folds.by)",
}


def assign_folds(galaxies: pd.DataFrame, folds, regions: dict, where=None, key: str = "where") -> pd.DataFrame:
    """Assign the galaxies of one trial to training, validation and test parts.

    Parameters
    ----------
    galaxies : DataFrame
        object_id, ra, dec (degrees), one row per galaxy.
    folds : config.Folds
        Number and kind of folds, fractions, seed.
    regions : dict of str to config.Region
        The boxes that `train_in` and `test_in` name.
    where : str, optional
        Condition that galaxies must fulfil to take part (`condition.fulfilled`). The others are "unused" in all roles;
        groups, folds and draws are those of the same trial without the condition.
    key : str
        Key of the configuration that holds the condition, for messages.

    Returns
    -------
    DataFrame
        object_id, fold (the fold whose networks test it), group (id of the unit that is never divided), and role_k
        ("train", "validation", "test", "unused") for k = fold + count * repeat; rows in the order of `galaxies`.

    Raises
    ------
    UserError
        If a fold has no test, training or validation galaxies, or the condition cannot be evaluated.
    """
    unit = unit_ids(galaxies, folds)
    fold = np.floor(hash_uniform(unit, folds.seed, "fold") * folds.count).astype(np.int64)
    trainable, testable = (in_region(galaxies, name, regions) for name in (folds.train_in, folds.test_in))
    takes_part = np.ones(len(galaxies), dtype=bool)
    if where is not None:
        known = galaxies.drop(columns=["row", "chunk"], errors="ignore")  # no properties of a galaxy
        takes_part = chosen(where, known, key).to_numpy(dtype=bool, na_value=False)
        trainable, testable = trainable & takes_part, testable & takes_part
    fraction = _train_fraction(folds, trainable, takes_part)
    table = pd.DataFrame({"object_id": galaxies["object_id"].to_numpy(np.int64), "fold": fold, "group": unit})
    for repeat in range(folds.repeats):
        drawn = hash_uniform(unit, folds.seed, f"train {repeat}") < fraction
        validates = hash_uniform(unit, folds.seed, f"validation {repeat}") < folds.validation_fraction
        for number in range(folds.count):
            outside = (fold != number) & trainable & drawn
            role = np.select(
                [(fold == number) & testable, outside & validates, outside], ["test", "validation", "train"], "unused"
            )
            for part, remedy in _REMEDY.items():
                if not np.any(role == part):
                    raise UserError(
                        f"fold {number} of {folds.count} (folds.by: {folds.by}) has no {part} galaxies "
                        f"among {takes_part.sum()}: {remedy}{'' if where is None else f', or loosen {key}'}."
                    )
            table[f"role_{number + folds.count * repeat}"] = role
    return table
