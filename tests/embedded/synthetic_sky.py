"""A small table of fields and objects such as the simulated sky gives to the catalogue."""

import numpy as np
import pandas as pd

from sdss_photoz.sample.footprint import sky_position
from sdss_photoz.survey import BANDS, EXTINCTION_PER_EBV

PIXEL = 0.396 / 3600  # degrees


def make_fields(count=4, run=3900, node=94.998448, incl=40.0044, mu=169.09, nu=0.83):
    """Adjacent fields of one run: 1361 rows apart, 1489 x 2048 pixels."""
    field = np.arange(count) + 269
    a = mu + np.arange(count) * 1361 * PIXEL
    fields = pd.DataFrame({"run": run, "camcol": 6, "field": field, "stripe": 26, "strip": "N"})
    fields = fields.assign(node=node, incl=incl, a=a, b=PIXEL, c=1.9e-8, d=nu, e=8.3e-9, f=PIXEL)
    corners = [
        sky_position(a + fields.b * r + fields.c * c, nu + fields.e * r + fields.f * c, node, incl)
        for r, c in [(0, 0), (0, 2048), (1489, 0), (1489, 2048)]
    ]
    ras, decs = np.array([c[0] for c in corners]), np.array([c[1] for c in corners])
    fields = fields.assign(ra_min=ras.min(0), ra_max=ras.max(0), dec_min=decs.min(0), dec_max=decs.max(0))
    fields["ra"], fields["dec"] = sky_position(a + fields.b * 744.5, nu + fields.f * 1024, node, incl)
    fields["mjd"], fields["suspect"] = 52755, False
    for band in BANDS:
        fields[f"psf_fwhm_{band}"], fields[f"sky_{band}"] = 1.3, 1.5
    return fields


def make_objects(fields, per_field=80, seed=1):
    """Targets, faint galaxies and stars, placed at random in each field; colours follow redshift, with scatter."""
    rng = np.random.default_rng(seed)
    parts = []
    for field in fields.itertuples():
        n = 2 * per_field
        row, col = rng.uniform(64, 1361, n), rng.uniform(20, 2028, n)
        ra, dec = sky_position(field.a + field.b * row, field.d + field.f * col, field.node, field.incl)
        part = pd.DataFrame({"run": field.run, "camcol": field.camcol, "field": field.field, "obj": np.arange(n) + 1})
        part["ra"], part["dec"] = ra, dec
        part["kind"] = np.array(["target", "faint", "star"])[np.minimum(np.arange(n) // (per_field // 2 * 2), 2)]
        part.loc[np.arange(n) >= 1.6 * per_field, "kind"] = "star"
        parts.append(part)
    objects = pd.concat(parts, ignore_index=True)
    n = len(objects)
    star = (objects["kind"] == "star").to_numpy()
    faint = (objects["kind"] == "faint").to_numpy()
    objects["type"] = np.where(star, 6, 3)
    z = np.clip(rng.gamma(4, 0.027, n), 0.01, 0.3)
    objects["z_true"] = np.where(star, np.nan, np.where(faint, z + 0.2, z))
    objects["red"] = ~star & (rng.random(n) < 0.6)
    objects["ebv"] = rng.uniform(0.01, 0.1, n)
    objects["ebv_catalog"] = objects["ebv"] * rng.normal(1, 0.1, n)
    r = np.where(faint, rng.uniform(18.5, 20.5, n), rng.triangular(14, 17.6, 17.7, n))
    colour = {"u": 2.6 + 5 * z, "g": 0.6 + 3.2 * z, "r": 0, "i": -0.35 - 0.6 * z, "z": -0.6 - 1.1 * z}
    for band in BANDS:
        objects[f"extinction_{band}"] = objects["ebv_catalog"] * EXTINCTION_PER_EBV[band]
        true = r + colour[band] + rng.normal(0, 0.05, n) + objects["extinction_" + band]
        for name, error in {"model_mag": 0.01, "cmodel_mag": 0.01, "petro_mag": 0.02}.items():
            objects[f"{name}_{band}"], objects[f"{name}_err_{band}"] = true + rng.normal(0, error, n), error
        objects[f"psf_mag_{band}"] = true + 0.5
        objects[f"petro_r50_{band}"], objects[f"petro_r90_{band}"] = 2.0, 5.0
        objects[f"psf_fwhm_{band}"], objects[f"sky_{band}"] = 1.3, 1.5
    objects["petro_rad_r"], objects["exp_ab_r"], objects["dev_ab_r"], objects["frac_dev_r"] = 8.0, 0.7, 0.7, 0.5
    objects["suspect"] = False
    return objects
