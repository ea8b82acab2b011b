"""The catalogue of the embedded archive: the survey's tables in DuckDB, with rows that queries must reject."""

import duckdb
import numpy as np
import pandas as pd
from sklearn.model_selection import KFold, cross_val_predict
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sdss_photoz.embedded.schema import PHOTO_FLAGS, TABLES, create_table
from sdss_photoz.embedded.spectra import draw_defects, make_spectra
from sdss_photoz.files import whole
from sdss_photoz.surveys import SDSS
from sdss_photoz.surveys.great_circle import TERMS
from sdss_photoz.surveys.sdss import RERUN, object_id
from sdss_photoz.surveys.sphere import pairs_within, unit_vectors

MISSING = -9999.0
SHRED_FRACTION = 0.004  # of the bright targets: the deblender split them in two, each part with a fiber
NEIGHBOR_RADIUS = 30  # arcsec: table Neighbors has pairs within half an arcmin
PHOTOZ_NEIGHBOURS = 20
_PHOTO_NAMES = {  # columns of the simulated sky and their names in PhotoObjAll
    **{"psf_mag": "psfMag", "model_mag": "modelMag", "model_mag_err": "modelMagErr", "extinction": "extinction"},
    **{"cmodel_mag": "cModelMag", "cmodel_mag_err": "cModelMagErr", "petro_mag": "petroMag"},
    **{"petro_mag_err": "petroMagErr", "petro_r50": "petroR50", "petro_r90": "petroR90", "psf_fwhm": "psffwhm"},
    "sky": "sky",
}


def _add_shreds(objects, rng):
    """Add shreds of bright targets: objects within 1.8 arcsec of them, with an object id and a fiber of their own."""
    r = objects["petro_mag_r"] - objects["extinction_r"]
    bright = np.flatnonzero((objects["kind"] == "target") & (r < 17.2))
    count = min(len(bright), max(2, round(SHRED_FRACTION * len(bright))))
    shreds = objects.iloc[np.sort(rng.choice(bright, count, replace=False))].copy()
    separation, angle = rng.uniform(0.4, 1.8, count) / 3600, rng.uniform(0, 2 * np.pi, count)
    shreds["dec"] += separation * np.sin(angle)
    shreds["ra"] = (shreds["ra"] + separation * np.cos(angle) / np.cos(np.radians(shreds["dec"]))) % 360
    fainter = rng.uniform(0.2, 0.5, count)
    for name in ("psf_mag", "model_mag", "cmodel_mag", "petro_mag"):
        for band in SDSS.band_names:
            shreds[f"{name}_{band}"] += fainter
    last = objects.groupby(["run", "camcol", "field"])["obj"].max()
    place = shreds.groupby(["run", "camcol", "field"]).cumcount()
    shreds["obj"] = last.loc[pd.MultiIndex.from_frame(shreds[["run", "camcol", "field"]])].to_numpy() + 1 + place
    shreds["kind"] = "shred"
    return pd.concat([objects, shreds], ignore_index=True)


def _photo_table(objects, defects, rng):
    targets = np.flatnonzero(objects["kind"] == "target")
    n = len(objects)
    flags = np.full(n, PHOTO_FLAGS["BINNED1"], dtype=np.int64)
    for name, fraction in {"BLENDED": 0.1, "CHILD": 0.3, "SATURATED": 0.01, "INTERP": 0.1}.items():
        flags |= np.where(rng.random(n) < fraction, PHOTO_FLAGS[name], 0)
    table = objects[["objID", "run", "camcol", "field", "obj", "ra", "dec", "type"]].copy()
    table["fieldID"] = object_id(objects["run"], objects["camcol"], objects["field"], 0)
    table["flags"], table["mjd"] = flags, objects["mjd"].to_numpy()
    table[["cx", "cy", "cz"]] = unit_vectors(objects["ra"], objects["dec"])
    constants = {"rerun": RERUN, "skyVersion": 2, "mode": 1, "nChild": 0, "clean": 1, "insideMask": 0}
    measured = {
        f"{theirs}_{b}": objects[f"{ours}_{b}"] for ours, theirs in _PHOTO_NAMES.items() for b in SDSS.band_names
    }
    shapes = {"petroRad_r": "petro_rad_r", "expAB_r": "exp_ab_r", "deVAB_r": "dev_ab_r", "fracDeV_r": "frac_dev_r"}
    measured |= {theirs: objects[ours] for theirs, ours in shapes.items()}
    measured |= {f"dered_{b}": objects[f"model_mag_{b}"] - objects[f"extinction_{b}"] for b in SDSS.band_names}
    table = pd.concat([table.assign(**constants), pd.DataFrame(measured)], axis=1)
    table.loc[targets[defects["not clean"]], "clean"] = 0
    table.loc[targets[defects["masked"]], "insideMask"] = 1
    for kind, column in {"no petro r": "petroMag_r", "no petro u": "petroMag_u", "no model u": "modelMag_u"}.items():
        table.loc[targets[defects[kind]], [column, column.replace("Mag", "MagErr")]] = MISSING
    return table


def _photoz_table(objects, defects, rng):
    """Estimate redshifts by nearest neighbours in colours, out of fold for galaxies of the training set."""
    galaxies = objects[(objects["type"] == 3).to_numpy()]
    mags = np.stack([galaxies[f"model_mag_{b}"] - galaxies[f"extinction_{b}"] for b in SDSS.band_names], axis=1)
    features = np.column_stack([mags[:, 2], -np.diff(mags, axis=1)])
    trained = (galaxies["kind"] == "target").to_numpy()
    neighbours = min(PHOTOZ_NEIGHBOURS, trained.sum() // 2)
    model = make_pipeline(StandardScaler(), KNeighborsRegressor(neighbours, weights="distance", n_jobs=1))
    folds = KFold(5, shuffle=True, random_state=int(rng.integers(2**31)))
    z_true = galaxies["z_true"].to_numpy(float)
    z = model.fit(features[trained], z_true[trained]).predict(features)
    z[trained] = cross_val_predict(model, features[trained], z_true[trained], cv=folds)
    error = 1.4826 * np.median(np.abs(z - z_true)[trained]) * rng.lognormal(0, 0.2, len(z))
    table = pd.DataFrame({"objID": galaxies["objID"].to_numpy(), "z": z, "zErr": error, "nnCount": neighbours})
    table["nnVol"], table["photoErrorClass"] = rng.lognormal(0, 0.5, len(z)), 1
    table.loc[rng.random(len(z)) < 0.005, ["z", "zErr"]] = MISSING
    targets = objects.loc[(objects["kind"] == "target").to_numpy(), "objID"].to_numpy()
    absent = np.isin(table["objID"], targets[defects["no photoz"]]) | (rng.random(len(z)) < 0.008)
    return table[~absent]


def _gal_spec_tables(spectra, objects, defects, rng):
    """Build galSpecInfo and galSpecExtra, the re-analysis of the spectra of galaxies."""
    spectra = spectra[~spectra.index.isin(defects["no galSpecInfo"])]
    by_id = objects.set_index("objID").loc[spectra["bestObjID"]]
    n = len(spectra)
    info = pd.DataFrame({"specObjID": spectra["specObjID"].to_numpy(), "plateid": spectra["plate"].to_numpy()})
    same = {"fiberid": "fiberID", "mjd": "mjd", "primtarget": "primtarget", "z_warning": "zWarning", "ra": "ra"}
    same |= {"dec": "dec", "z": "z", "z_err": "zErr", "v_disp": "velDisp", "sn_median": "snMedian_r"}
    same |= {"spectrotype": "class", "subclass": "subClass"}
    info = info.assign(**{ours: spectra[theirs].to_numpy() for ours, theirs in same.items()})
    info["e_bv_sfd"] = by_id["ebv_catalog"].to_numpy()
    info = info.assign(sectarget=0, targettype="GALAXY", release="dr7", reliable=1, v_disp_err=10.0)
    galaxy = (spectra["class"] == "GALAXY").to_numpy() & (by_id["type"] == 3).to_numpy()
    z = np.clip(spectra["z"].to_numpy(float), 1e-3, None)
    dered = {b: (by_id[f"model_mag_{b}"] - by_id[f"extinction_{b}"]).to_numpy() for b in SDSS.band_names}
    distance = 299792.458 / 70 * z * (1 + 0.775 * z)  # Mpc, to second order in z for Omega_m = 0.3
    absolute = dered["r"] - 25 - 5 * np.log10(distance) - z
    mass = -0.306 + 1.097 * (dered["g"] - dered["r"] - z) - 0.4 * (absolute - 4.67) - 0.15  # Bell et al. 2003
    specific = np.where(by_id["red"].to_numpy(bool), -11.8, -10.1) + rng.normal(0, 0.3, n)
    extra = pd.DataFrame({"specObjID": info["specObjID"], "lgm_tot_p50": mass + rng.normal(0, 0.1, n)})
    extra["bptclass"] = info["subclass"].map({"STARFORMING": 1, "STARBURST": 1, "AGN": 4}).fillna(-1)
    extra["specsfr_tot_p50"], extra["sfr_tot_p50"] = specific, specific + extra["lgm_tot_p50"]
    extra.loc[rng.random(n) < 0.01, ["lgm_tot_p50", "sfr_tot_p50", "specsfr_tot_p50"]] = MISSING
    return info, extra[galaxy]


def _neighbors_table(objects):
    first, second = pairs_within(objects["ra"], objects["dec"], NEIGHBOR_RADIUS).T
    first, second = np.concatenate([first, second]), np.concatenate([second, first])
    vectors = unit_vectors(objects["ra"], objects["dec"])
    chord = np.linalg.norm(vectors[first] - vectors[second], axis=1)
    ids, types = objects["objID"].to_numpy(), objects["type"].to_numpy()
    table = pd.DataFrame({"objID": ids[first], "neighborObjID": ids[second], "type": types[first]})
    table["distance"] = np.degrees(2 * np.arcsin(chord / 2)) * 60  # arcmin
    return table.assign(neighborType=types[second], mode=1, neighborMode=1)


def _field_tables(fields):
    """Build Field, Frame (which also has zoomed-out images of each field, zoom > 0) and Run."""
    names = {"ra_min": "raMin", "ra_max": "raMax", "dec_min": "decMin", "dec_max": "decMax"}
    table = fields.rename(columns=names).reset_index(drop=True)
    table["fieldID"] = object_id(table["run"], table["camcol"], table["field"], 0)
    table["rerun"] = RERUN
    terms = {
        f"{t}_{b}": table.get(f"{t}_{b}", table[t] if b == "r" else np.nan) for t in TERMS for b in SDSS.band_names
    }
    widths = {f"psfWidth_{b}": table[f"psf_fwhm_{b}"] for b in SDSS.band_names}
    extra = pd.DataFrame(terms | widths, index=table.index)
    field = pd.concat([table.drop(columns=list(extra), errors="ignore"), extra], axis=1)
    field = field.assign(skyVersion=2, quality=3, mjd_r=field["mjd"].astype(float))
    frame = table.assign(
        mu=table["a"] + 744.5 * table["b"] + 1024 * table["c"], nu=table["d"] + 744.5 * table["e"] + 1024 * table["f"]
    )
    frame = pd.concat([frame.assign(zoom=zoom) for zoom in (0, 10, 20)], ignore_index=True)
    runs = table.groupby("run")
    run = runs[["rerun", "mjd", "stripe", "strip", "node", "incl"]].first()
    run = run.assign(startField=runs["field"].min(), endField=runs["field"].max()).reset_index()
    return field, frame, run


def write_catalog(path, fields: pd.DataFrame, objects: pd.DataFrame, seed: int) -> None:
    """Write the catalogue of a simulated sky.

    Beside good galaxies it has every kind of row that the query or the selection must reject: stars, zWarning, z <= 0,
    survey boss, other target types, primtarget < 64, not clean, masked, faint, repeat spectra, shreds, values of -9999,
    no row in Photoz or galSpecInfo. The order of the rows is random.

    Parameters
    ----------
    path : str or Path
        The DuckDB file, written atomically.
    fields : DataFrame
        One row for each field: run, camcol, field, stripe, strip, node, incl, a … f (r band; degrees), ra, dec and
        their bounds, mjd, psf_fwhm and sky by band; optionally a_u … f_z.
    objects : DataFrame
        One row for each detection: position, type, kind, z_true, magnitudes (not dereddened), shapes, ebv_catalog, red.
    seed : int
        Seed of all random draws.
    """
    rng = np.random.default_rng([seed, 4])
    objects = _add_shreds(objects.reset_index(drop=True), rng)
    objects["objID"] = object_id(objects["run"], objects["camcol"], objects["field"], objects["obj"])
    dates = fields.set_index(["run", "camcol", "field"])["mjd"]
    objects["mjd"] = dates.loc[pd.MultiIndex.from_frame(objects[["run", "camcol", "field"]])].to_numpy()
    defects = draw_defects(int((objects["kind"] == "target").sum()), rng)
    spectra = make_spectra(objects, defects, rng)
    photo = _photo_table(objects, defects, rng)
    primary = spectra[spectra["sciencePrimary"] == 1].drop_duplicates("bestObjID").set_index("bestObjID")["specObjID"]
    photo["specObjID"] = photo["objID"].map(primary).fillna(0).astype(np.int64)
    info, extra = _gal_spec_tables(spectra, objects, defects, rng)
    field, frame, run = _field_tables(fields)
    spectra = spectra.assign(legacy_target1=spectra["primtarget"], primTarget=spectra["primtarget"])
    tables = {"PhotoObjAll": photo, "SpecObjAll": spectra, "Photoz": _photoz_table(objects, defects, rng)}
    tables |= {"galSpecInfo": info, "galSpecExtra": extra, "Field": field, "Frame": frame, "Run": run}
    tables["Neighbors"] = _neighbors_table(objects)
    with whole(path) as part:
        part.unlink()  # DuckDB refuses to open an empty file
        with duckdb.connect(str(part)) as connection:
            for name, columns in TABLES.items():
                rows = tables[name][list(columns)].fillna(MISSING)
                rows = rows.iloc[rng.permutation(len(rows))]
                connection.execute(create_table(name))
                connection.execute(f'INSERT INTO "{name}" SELECT * FROM rows')  # the Python variable `rows`
