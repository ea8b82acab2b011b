"""Time and memory of the footprint search for all fields of the survey and all galaxies of the sample.

    python benchmarks/footprint.py

The index is synthetic: 937,836 fields of 6 camera columns in runs along both strips of each stripe, of node 95, and
of some hundred visits to the equatorial stripe; terms of each band scatter as in a real run. The 516,525 galaxies are
drawn uniformly over that sky. Each measurement runs in a process of its own on one core: seconds including the reading
of the fields, peak memory (GB, with libraries and tables), and their ratios to the limits. "chunk" is the work of one
job of the workflow, for one of 400 chunks, on the equatorial stripe. Prints one JSON object.

On a shared core of an AMD EPYC: all 29.5 s (0.49 of the limit) and 1.31 GB (0.33) for 8,143,500
overlaps; a chunk of 1,291 galaxies in up to 129 visits 2.3 s and 0.66 GB.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

FIELDS, GALAXIES, CHUNKS = 937_836, 516_525, 400
ALL = {"seconds": 60, "gigabytes": 4}
CHUNK = {"seconds": 10, "gigabytes": 1.5}
PIXEL = 0.396 / 3600  # degrees
STEP = 1361 * PIXEL  # degrees from one field of a run to the next
CAMCOLS = (np.arange(6) - 2.5) * 0.4197  # degrees: nu of the camera columns
ONE_THREAD = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL", "NUMEXPR", "ARROW")}


def scans():
    """Yield first mu, length (degrees), node, inclination and strip of the survey's scans: stripes, then revisits."""
    for stripe in range(1, 46):
        for strip in (0, 1):
            yield 95 + 90 - 65, 130.0, 95.0, 2.5 * stripe - 57.5, strip
    for visit in range(1000):
        yield 275 + 35, 110.0, 275.0, 0.0, visit % 2


def make_fields(rng) -> pd.DataFrame:
    """Make the index of fields."""
    parts, count = [], 0
    for number, (first, length, node, incl, strip) in enumerate(scans()):
        along = int(length / STEP)
        mu = first + np.arange(along) * STEP + rng.uniform(0, 2)
        for camcol, nu in enumerate(CAMCOLS, 1):
            part = {"run": 94 + 7 * number, "camcol": camcol, "field": np.arange(along) + 11, "a": mu}
            where = nu + 0.20985 * strip - 1024 * PIXEL + rng.normal(0, 0.002)
            parts.append(pd.DataFrame(part | {"d": where, "node": node - 0.001552, "incl": incl + 0.0044}))
        count += 6 * along
        if count >= FIELDS:
            break
    fields = pd.concat(parts, ignore_index=True).iloc[:FIELDS]
    fields["a"] %= 360
    shapes = {name: rng.normal(0, 3e-8, FIELDS) for name in "ce"}
    shapes |= {name: PIXEL * (1 + rng.normal(0, 1e-4, FIELDS)) for name in "bf"}
    bands = {}
    for band in "ugriz":
        for term in "abcdef":
            value = fields[term] if term in fields else shapes[term]
            bands[f"{term}_{band}"] = np.float32(value + (rng.normal(0, 5 * PIXEL, FIELDS) if term in "ad" else 0))
    return fields.assign(**shapes, **bands, fieldID=np.arange(FIELDS))


def make_galaxies(fields, rng) -> pd.DataFrame:
    """Draw galaxies uniformly over the fields, ordered by right ascension in strips of declination."""
    from sdss_photoz.surveys.great_circle import sky_position

    once = fields[fields["run"] < 94 + 7 * 92]  # the stripes, and two visits to the equator
    place = once.iloc[rng.integers(0, len(once), GALAXIES)]
    row, col = rng.uniform(0, 1489, GALAXIES), rng.uniform(0, 2048, GALAXIES)
    terms = (place[name].to_numpy() for name in ("a", "b", "d", "f", "node", "incl"))
    a, b, d, f, node, incl = terms
    ra, dec = sky_position(a + b * row, d + f * col, node, incl)
    galaxies = pd.DataFrame({"ra": ra, "dec": dec})
    order = np.lexsort((galaxies["ra"], galaxies["dec"] // 3))
    return galaxies.iloc[order].assign(chunk=np.arange(GALAXIES) * CHUNKS // GALAXIES).reset_index(drop=True)


def measured(what, folder) -> dict:
    """Run `measure` in a new process, and add ratios to the limits."""
    command = [sys.executable, __file__, "--measure", what, str(folder)]
    output = subprocess.run(command, env=os.environ | ONE_THREAD, check=True, capture_output=True, text=True).stdout
    result, limits = json.loads(output), {"all": ALL, "chunk": CHUNK}[what]
    return result | {f"{name}_of_limit": round(result[name] / limits[name], 3) for name in limits}


def measure(what, folder: Path) -> dict:
    """Find the frames of all galaxies, or of those of one chunk as a job of the workflow does."""
    from sdss_photoz.frames.footprint import fields_near, overlapping_frames

    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])
    filters = [("chunk", "==", 200)] if what == "chunk" else None
    galaxies = pd.read_parquet(folder / "galaxies.parquet", filters=filters)
    start = time.perf_counter()
    fields = fields_near(folder / "fields.parquet", galaxies["ra"], galaxies["dec"])
    read = time.perf_counter() - start
    found = overlapping_frames(galaxies["ra"], galaxies["dec"], fields)
    seconds = time.perf_counter() - start
    return {
        "galaxies": len(galaxies),
        "fields": len(fields),
        "frames": len(found.groupby(["run", "camcol", "field", "band"])) if what == "chunk" else None,
        "overlaps": len(found),
        "deepest": int(found["galaxy"].value_counts().max()) / 5,
        "reading_seconds": round(read, 2),
        "seconds": round(seconds, 2),
        "gigabytes": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 3),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="folder to keep the synthetic survey in")
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments.measure[0], Path(arguments.measure[1])), allow_nan=False))
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.folder or Path(scratch)
        if not (folder / "galaxies.parquet").exists():
            folder.mkdir(parents=True, exist_ok=True)
            rng = np.random.default_rng(1)
            fields = make_fields(rng)
            fields.to_parquet(folder / "fields.parquet", index=False)
            make_galaxies(fields, rng).to_parquet(folder / "galaxies.parquet", index=False)
        print(json.dumps({what: measured(what, folder) for what in ("all", "chunk")}, indent=1, allow_nan=False))


if __name__ == "__main__":
    main()
