"""Time of a simulated sky: a few fields are made, and the time of the whole sky on a node is extrapolated.

    python benchmarks/sky.py [CONFIG] [--fields 4] [--cores 16]

CONFIG is config/embedded-large.yaml by default. Fields are independent and made in parallel; the serial parts (drawing
the sky, writing the catalogue) are measured at full size, the catalogue with the objects of the measured fields
repeated.
"""

import argparse
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
from clocks import peak_gigabytes
from threadpoolctl import threadpool_limits

from sdss_photoz.config import load
from sdss_photoz.embedded import build, render
from sdss_photoz.embedded.database import write_catalog
from sdss_photoz.embedded.scene import draw_scenes

LARGE = Path(__file__).parents[1] / "config" / "embedded-large.yaml"
spent = Counter()  # CPU seconds by part


def timed(name, function):
    """Wrap a function to add its CPU time to `spent[name]`."""

    def wrapped(*arguments, **keywords):
        start = time.process_time()
        result = function(*arguments, **keywords)
        spent[name] += time.process_time() - start
        return result

    return wrapped


def measure(embedded, number: int) -> None:
    """Make `number` fields of a sky, and its catalogue."""
    scenes = timed("drawing the sky", draw_scenes)(embedded)
    fields = build._field_rows(scenes)
    jobs = [
        (n, index, f) for n, scene in enumerate(scenes) for index, s in enumerate(scene.strips) for f in range(s.fields)
    ]
    build._scenes, render.frame_bytes = scenes, timed("files", render.frame_bytes)
    with tempfile.TemporaryDirectory() as folder:
        expose = timed("fields", build._expose_field)
        made = [expose(embedded.seed, Path(folder), 12, *job)[1] for job in jobs[:number]]
        objects = pd.concat([moved(made[k % number], fields.iloc[k % number], field) for k, field in fields.iterrows()])
        timed("catalogue", write_catalog)(Path(folder) / "catalog.duckdb", fields, objects, embedded.seed)


def moved(objects: pd.DataFrame, here: pd.Series, there: pd.Series) -> pd.DataFrame:
    """Move the objects of one field to another."""
    place = {"run": there["run"], "camcol": there["camcol"], "field": there["field"]}
    ra = (objects["ra"] - here["ra"]) * np.cos(np.radians(here["dec"])) / np.cos(np.radians(there["dec"]))
    return objects.assign(**place, ra=(ra + there["ra"]) % 360, dec=objects["dec"] - here["dec"] + there["dec"])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", nargs="?", default=LARGE, type=Path)
    parser.add_argument("--fields", type=int, default=4, help="fields to make")
    parser.add_argument("--cores", type=int, default=16, help="cores of the node")
    options = parser.parse_args()
    embedded = load(options.config).embedded
    with threadpool_limits(1):
        measure(embedded, options.fields)
    count, galaxies = embedded.fields + embedded.visits, embedded.fields * embedded.galaxies_per_field
    files, pixels = spent["files"] / options.fields, (spent["fields"] - spent["files"]) / options.fields
    drawing, catalogue = spent["drawing the sky"], spent["catalogue"]
    seconds = drawing + catalogue + count * (files + pixels) / options.cores
    print(f"a field of {embedded.galaxies_per_field} galaxies, mean of {options.fields}, CPU seconds:")
    print(f"  {pixels:.2f} to render and measure, {files:.2f} to compress and write; {peak_gigabytes():.1f} GB")
    print(f"in one process: {drawing:.0f} s to draw the sky, {catalogue:.0f} s for the catalogue")
    print(f"{count} fields, {galaxies:,} galaxies, on {options.cores} cores: {seconds / 60:.1f} minutes")


if __name__ == "__main__":
    main()
