"""A small file like the published one."""

import zipfile

import numpy as np

COLUMNS = [
    *[("specObjID", "<i8"), ("ra", "<f8"), ("dec", "<f8"), ("z", "<f4"), ("dered_petro_r", "<f4")],
    *[("class", "S6"), ("primtarget", "<i8"), ("EBV", "<f4")],
]


def spec_id(number):
    """Identifiers of spectra with the survey's bits: plate, fibre, MJD - 50000 and run2d; the last ten are zero."""
    number = np.asarray(number, np.int64)
    return ((266 + number // 640) << 50) | ((1 + number % 640) << 38) | (1630 << 24) | (103 << 10)


def labels_of(n, columns=COLUMNS, **values):
    """Labels of `n` galaxies inside the paper's sample."""
    table = np.zeros(n, columns)
    given = {"specObjID": spec_id(np.arange(n)), "z": np.linspace(0.02, 0.3, n), "dered_petro_r": magnitudes(n)}
    for name, value in {**given, "primtarget": 64, "EBV": 0.03, "class": b"GALAXY", **values}.items():
        if name in table.dtype.names:
            table[name] = value
    return table


def magnitudes(n):
    """Magnitudes between 14 and 17.8, in no order."""
    return 14 + 3.8 * ((np.arange(n) * 0.618) % 1)


def cubes_of(magnitude, seed=1):
    """Cubes of galaxies of given magnitudes in r: noise and a blob (nanomaggies)."""
    y, x = np.mgrid[:64, :64] - 31.5
    blob = np.exp(-(x**2 + y**2) / 50) / 157
    cubes = np.random.default_rng(seed).normal(0, 0.02, (len(magnitude), 64, 64, 5)).astype("f4")
    return cubes + (10 ** (0.4 * (22.5 - np.asarray(magnitude))))[:, None, None, None].astype("f4") * blob[
        :, :, None
    ].astype("f4")


def write_npz(path, deflated=False, zip64=False, **arrays):
    """Write arrays as members of an npz file, objects as pickles."""
    kind = zipfile.ZIP_DEFLATED if deflated else zipfile.ZIP_STORED
    with zipfile.ZipFile(path, "w", kind, compresslevel=1) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=zip64) as member:
                np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=True)
    return path
