"""Build the embedded archive: frames in the archive's layout, objects measured on them, and the catalogue."""

import hashlib
import multiprocessing
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import galsim
import numpy as np
import pandas as pd

from sdss_photoz.config import Embedded
from sdss_photoz.embedded import camera, photometry, render
from sdss_photoz.embedded.astrometry import tangent_wcs
from sdss_photoz.embedded.scene import Scene, draw_scenes
from sdss_photoz.files import whole, write_csv
from sdss_photoz.progress import progress
from sdss_photoz.surveys import SDSS
from sdss_photoz.surveys.sdss import FIELD_ROWS, FRAME_SHAPE, Frame

SUSPECT_ERROR = 0.03  # mag by which the band of the suspect zone is too faint
PSF_STAMP = 48
POSITION_ERROR = 0.03  # arcsec, standard deviation in each coordinate
MEASURED_BANDS = "rugiz"  # r first: its Petrosian radius is used in all bands

_scenes: list[Scene] = []  # inherited by the pool's processes when they are forked


def _shapes(scene: Scene, index: int) -> list[tuple]:
    """Return for each object the Fourier images of bulge and disc (None for stars) and the stamp size in pixels."""
    strip, conditions = scene.strips[index], scene.conditions[index][0]
    keys = tangent_wcs(strip, 0, "r")
    to_pixels = np.linalg.inv([[keys["CD1_1"], keys["CD1_2"]], [keys["CD2_1"], keys["CD2_2"]]])
    limits = {band: render.VANISHING * camera.sky_noise(conditions[band]) for band in SDSS.band_names}
    shapes = []
    for thing in scene.objects.itertuples():
        flux = {band: getattr(thing, f"flux_{band}") for band in SDSS.band_names}
        if thing.kind == "star":
            core = conditions["u"]["fwhm"] / SDSS.pixel_scale
            radius = core * max(
                (0.3 * flux[b] / core**2 / limits[b]) ** (1 / (2 * render.MOFFAT_BETA)) for b in SDSS.band_names
            )
            shapes.append((None, render.stamp_size(radius + 8)))
            continue
        bulge_r50, disc_r50 = thing.bulge_r50 / SDSS.pixel_scale, thing.disc_r50 / SDSS.pixel_scale
        radius = max(
            render.vanishing_radius(flux[b], bulge_r50, disc_r50, getattr(thing, f"bulge_fraction_{b}"), limits[b])
            for b in SDSS.band_names
        )
        size = render.stamp_size(radius + 10)
        angle = np.radians(thing.position_angle)
        dx, dy = to_pixels @ [np.sin(angle), np.cos(angle)]
        direction = np.arctan2(dy, dx) * galsim.radians
        parts = [
            profile(half_light_radius=r50 * np.sqrt(axis_ratio)).shear(q=axis_ratio, beta=direction)
            for profile, r50, axis_ratio in (
                (galsim.DeVaucouleurs, bulge_r50, thing.bulge_ab),
                (galsim.Exponential, disc_r50, thing.disc_ab),
            )
        ]
        shapes.append(([render.fourier_image(part, size) for part in parts], size))
    return shapes


def _draw_band(scene, index, number, band, shapes, psfs, wanted):
    """Return the noise-free light of one frame, and a `Source` for each object (None if outside the frame)."""
    strip, objects = scene.strips[index], scene.objects
    x, y = strip.pixels(band, objects["ra"].to_numpy(), objects["dec"].to_numpy())
    light, sources = np.zeros(FRAME_SHAPE, np.float32), []
    top = FIELD_ROWS * number
    blocks = np.clip(y // FIELD_ROWS, 0, strip.fields).astype(int)
    bulge_fraction = objects["bulge_fraction_r"].to_numpy()
    zero_point = 10 ** (-0.4 * SUSPECT_ERROR) if strip.suspect == band else 1.0
    for k, (parts, size) in enumerate(shapes):
        if not (top - size < y[k] < top + FRAME_SHAPE[0] + size and -size < x[k] < FRAME_SHAPE[1] + size):
            sources.append(None)
            continue
        psf = psfs[blocks[k]][band]
        fourier = [psf.fourier(size)] if parts is None else [part * psf.fourier(size) for part in parts]
        stamps = [render.stamp(image, x[k], y[k]) for image in fourier]
        row, column = stamps[0][1] - top, stamps[0][2]
        window, part = render.overlap(row, column, size, FRAME_SHAPE)
        templates = [pixels[part] for pixels, _, _ in stamps]
        if templates[0].size == 0:
            sources.append(None)
            continue
        flux = objects[f"flux_{band}"].iat[k] * zero_point
        bulge = 1.0 if parts is None else objects[f"bulge_fraction_{band}"].iat[k]
        for template, amount in zip(templates, (flux * bulge, flux * (1 - bulge)), strict=False):
            light[window] += np.float32(amount) * template
        if not wanted[k]:
            sources.append(photometry.Source(x[k], y[k] - top, window, templates, bulge_fraction[k]))
            continue
        point, row, column = render.stamp(psf.fourier(PSF_STAMP), x[k], y[k])
        psf_window, part = render.overlap(row - top, column, PSF_STAMP, FRAME_SHAPE)
        sources.append(
            photometry.Source(x[k], y[k] - top, window, templates, bulge_fraction[k], psf_window, point[part])
        )
    return light, sources


def _neighbourhood(sources: list, primary: np.ndarray) -> tuple[list, list[int]]:
    """Return primary objects of a field and all whose windows overlap theirs, and the indices of the primary ones."""
    own = [sources[k] for k in np.flatnonzero(primary)]
    box = np.array([[axis.start, axis.stop] for source in own for axis in source.window]).reshape(-1, 2, 2)
    near, wanted = [], []
    for source, is_primary in zip(sources, primary, strict=True):
        if source is None:
            continue
        rows, columns = source.window
        overlaps = (box[:, 0, 0] < rows.stop) & (box[:, 0, 1] > rows.start)
        if is_primary or np.any(overlaps & (box[:, 1, 0] < columns.stop) & (box[:, 1, 1] > columns.start)):
            if is_primary:
                wanted.append(len(near))
            near.append(source)
    return near, wanted


def _expose_field(seed: int, folder: Path, release: int, scene_number: int, index: int, number: int):
    """Render, write and measure the five frames of one field; return their manifest and the primary objects."""
    scene = _scenes[scene_number]
    strip, conditions = scene.strips[index], scene.conditions[index]
    psfs = [
        {b: render.PointSpread(now[b]["fwhm"], tuple(now[b]["shear"])) for b in SDSS.band_names} for now in conditions
    ]
    primary = ((scene.objects["strip_index"] == index) & (scene.objects["field_index"] == number)).to_numpy()
    shapes = _shapes(scene, index)
    frames, measured, radii = [], {}, None
    for band in MEASURED_BANDS:
        light, sources = _draw_band(scene, index, number, band, shapes, psfs, primary)
        image = render.expose(light, strip, number, band, conditions, seed)
        now = conditions[number][band]
        path = Frame(strip.run, strip.camcol, strip.first_field + number, band).path(release)
        content = render.frame_bytes(image, strip, number, band, now)
        with whole(folder / "sas" / path) as part:
            part.write_bytes(content)
        frames.append((path, len(content), hashlib.sha256(content).hexdigest()))
        if primary.any():
            near, wanted = _neighbourhood(sources, primary)
            values = photometry.measure_band(
                image, near, wanted, band, camera.sky_noise(now), camera.photon_variance(now), radii
            )
            measured[band] = pd.DataFrame(values, index=np.flatnonzero(primary))
            radii = measured["r"]["petro_rad"].to_numpy() / SDSS.pixel_scale
    return frames, _catalogue_rows(scene, index, number, primary, measured, seed) if primary.any() else None


def _catalogue_rows(scene, index, number, primary, measured, seed) -> pd.DataFrame:
    """Return the catalogue rows of the primary objects of a field."""
    strip, now = scene.strips[index], scene.conditions[index][number]
    rng = np.random.default_rng([seed, 4, strip.run, strip.camcol, strip.first_field + number])
    objects = scene.objects[primary]
    order = np.argsort(strip.pixels("r", objects["ra"], objects["dec"])[1], kind="stable")
    objects = objects.iloc[order]
    count = len(objects)
    offset = rng.normal(0, POSITION_ERROR / 3600, (2, count))
    rows = pd.DataFrame(
        {
            "run": strip.run, "camcol": strip.camcol, "field": strip.first_field + number,
            "obj": np.arange(1, count + 1),
            "ra": (objects["ra"] + offset[0] / np.cos(np.radians(objects["dec"]))) % 360,
            "dec": objects["dec"] + offset[1],
            "type": np.where(objects["kind"] == "star", 6, 3), "z_true": objects["z_true"], "kind": objects["kind"],
            "ebv": objects["ebv"], "ebv_catalog": objects["ebv_catalog"],
        }
    )  # fmt: skip
    for band in SDSS.band_names:
        values = measured[band].loc[rows.index]
        rows[f"extinction_{band}"] = SDSS.extinction[band] * rows["ebv_catalog"]
        for name in ("model_mag", "model_mag_err", "cmodel_mag", "cmodel_mag_err", "petro_mag", "petro_mag_err"):
            rows[f"{name}_{band}"] = values[name]
        for name in ("psf_mag", "petro_r50", "petro_r90"):
            rows[f"{name}_{band}"] = values[name]
        rows[f"psf_fwhm_{band}"] = now[band]["fwhm"]
        rows[f"sky_{band}"] = camera.sky_brightness(now[band])
    in_r = measured["r"].loc[rows.index]
    rows["petro_rad_r"], rows["frac_dev_r"] = in_r["petro_rad"], in_r["frac_dev"]
    scatter = 0.02 + 0.5 * in_r["model_mag_err"] + 0.03 * (now["r"]["fwhm"] / in_r["petro_r50"]).clip(0, 3)
    for name, part in (("exp_ab_r", "disc_ab"), ("dev_ab_r", "bulge_ab")):
        axis_ratio = objects[part].fillna(0.9) + scatter * rng.standard_normal(count)
        rows[name] = axis_ratio.clip(0.05, 1.0)
    rows["red"], rows["suspect"] = objects["red"].astype(bool), strip.suspect is not None
    return rows.reset_index(drop=True)


def _field_rows(scenes: list[Scene]) -> pd.DataFrame:
    """Return one row for each field, for the tables Field and Frame."""
    rows = []
    for scene in scenes:
        for strip, conditions in zip(scene.strips, scene.conditions, strict=True):
            for number in range(strip.fields):
                low, high = FIELD_ROWS * number - 0.5, FIELD_ROWS * number + FRAME_SHAPE[0] - 0.5
                right = FRAME_SHAPE[1] - 0.5
                ra, dec = strip.sky("r", np.array([-0.5, right, right, -0.5]), np.array([low, low, high, high]))
                centre = strip.sky("r", (right - 0.5) / 2, (low + high) / 2)
                now = conditions[number]
                row = {"run": strip.run, "camcol": strip.camcol, "field": strip.first_field + number}
                row |= {"stripe": strip.stripe, "strip": strip.strip, "node": strip.node, "incl": strip.incl}
                row |= dict(zip("abcdef", strip.field_terms(number, "r"), strict=True))
                for band in SDSS.band_names:
                    row |= {
                        f"{term}_{band}": value
                        for term, value in zip("abcdef", strip.field_terms(number, band), strict=True)
                    }
                row |= {"ra": float(centre[0]), "dec": float(centre[1]), "ra_min": ra.min(), "ra_max": ra.max()}
                row |= {"dec_min": dec.min(), "dec_max": dec.max(), "mjd": strip.mjd}
                row |= {f"psf_fwhm_{band}": now[band]["fwhm"] for band in SDSS.band_names}
                row |= {f"sky_{band}": camera.sky_brightness(now[band]) for band in SDSS.band_names}
                rows.append(row | {"suspect": strip.suspect is not None})
    return pd.DataFrame(rows)


def make_sky(embedded: Embedded, folder, release: int = 12, processes: int = 1) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Render all frames of the simulated sky and measure its objects.

    Parameters
    ----------
    embedded : Embedded
        The block `embedded` of the configuration.
    folder : Path
        Frames are written to ``folder/sas`` in the archive's layout, their list (path, bytes, sha256) to
        ``folder/frames.csv``.
    release : int
        Data release, which names the layout's first folders.
    processes : int
        Number of processes that render fields; the bytes do not depend on it.

    Returns
    -------
    (fields, objects) : DataFrames
        One row for each field; one row for each object, in the field where it is primary. Magnitudes are not
        corrected for Galactic extinction.
    """
    global _scenes
    folder = Path(folder)
    _scenes = draw_scenes(embedded)
    jobs = [
        (embedded.seed, folder, release, number, index, field)
        for number, scene in enumerate(_scenes)
        for index, strip in enumerate(scene.strips)
        for field in range(strip.fields)
    ]
    fields = _field_rows(_scenes)
    results = [None] * len(jobs)
    with progress(total=len(SDSS.band_names) * len(jobs), unit="frame", label="simulated sky") as bar:
        if processes == 1:
            for number, job in enumerate(jobs):
                results[number] = _expose_field(*job)
                bar.update(len(SDSS.band_names))
        else:  # forked, so that scenes are not pickled; the files do not depend on the order of fields
            with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("fork")) as pool:
                numbers = {pool.submit(_expose_field, *job): number for number, job in enumerate(jobs)}
                for done in as_completed(numbers):
                    results[numbers[done]] = done.result()
                    bar.update(len(SDSS.band_names))
    _scenes = []
    frames = pd.DataFrame([frame for made, _ in results for frame in made], columns=["path", "bytes", "sha256"])
    write_csv(folder / "frames.csv", frames.sort_values("path"))
    return fields, pd.concat([rows for _, rows in results if rows is not None], ignore_index=True)


def build_archive(embedded: Embedded, folder, release: int = 12, processes: int = 1) -> None:
    """Build the whole embedded archive: frames, their list, and the catalogue ``catalog.duckdb``.

    Parameters are those of `make_sky`.
    """
    from sdss_photoz.embedded.database import write_catalog

    fields, objects = make_sky(embedded, folder, release, processes)
    write_catalog(Path(folder) / "catalog.duckdb", fields, objects, embedded.seed)
