"""Benchmarks of the cubes: the kernel, SWarp and reproject; the stage and decompression; memory; shared frames.

    python benchmarks/cubes.py SAS

SAS is a folder of corrected frames. Programs run alternately in rounds, and the fastest round of each counts; ratios
are of CPU seconds, which depend least on the load of the machine. Prints tables and writes them, with a figure, to
docs/benchmarks/. Takes some five minutes on two cores; ``--full`` takes three times the rounds and frames, ``--quick``
tests in a minute that it runs.
"""

import argparse
from pathlib import Path

from clocks import in_own_process
from cubes_chunks import shared_frames
from cubes_kernels import kernels, readers
from cubes_page import Results, draw, page
from cubes_stage import depths, galaxies_per_frame, stage
from cubes_store import precisions

from sdss_photoz.cubes.cutouts import find_frames

OUT = Path(__file__).parents[1] / "docs" / "benchmarks"
GALAXIES = 20  # per frame
CHUNKS = 125  # of the synthetic survey
SIZES = {  # rounds, frames of the stage, galaxies per frame, depths, galaxies of each depth, cubes of each precision
    "--quick": (1, 1, (1, 20), (1, 4), 20, 5),
    "": (4, 200, (1, 2, 5, 10, 20, 50, 100, 200), (1, 2, 4, 16, 64), 1000, 200),
    "--full": (12, 600, (1, 2, 5, 10, 20, 50, 100, 200), (1, 2, 4, 8, 16, 32, 64), 1000, 200),
}


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sas", type=Path, metavar="SAS")
    parser.add_argument("--out", type=Path, default=OUT, help="folder for the page and the figure")
    for size in filter(None, SIZES):
        parser.add_argument(size, dest="size", action="store_const", const=size, default="")
    arguments = parser.parse_args()
    results = measure(arguments.sas, arguments.size)
    text = page(results, arguments.size)
    print(text)
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "cubes.md").write_text(text)
    draw(results, arguments.out / "cubes.png")


def measure(sas: Path, size: str) -> Results:
    """Run all benchmarks in sequence."""
    rounds, frames, densities, visits, galaxies, positions = SIZES[size]
    paths = find_frames(sas)
    chosen = next((frame for frame in paths if frame.band == "r"), next(iter(paths)))
    return Results(
        frames=len(paths),
        positions=GALAXIES,
        kernels=kernels(paths[chosen], GALAXIES, rounds),
        readers=readers(list(paths.values())[: min(rounds, 3)], rounds),
        stage=in_own_process(stage, sas, GALAXIES, frames),
        densities=galaxies_per_frame(chosen, paths[chosen], densities, rounds),
        deep_galaxies=galaxies,
        depths=depths(visits, galaxies),
        precisions=precisions(paths, positions, rounds),
        shared=None if size == "--quick" else in_own_process(shared_frames, CHUNKS),
    )


if __name__ == "__main__":
    main()
