"""Progress that people can read: counts, rate and time left, on a terminal or in a log file."""

import sys


def progress(iterable=None, *, total=None, unit="it", label="", **options):
    """A tqdm bar that redraws on a terminal and writes a line every ten seconds elsewhere.

    Parameters are tqdm's; `label` is its description.
    """
    from tqdm import tqdm  # here: the benchmark of training, which draws no bar, runs where torch alone is installed

    live = sys.stderr.isatty()
    return tqdm(
        iterable,
        total=total,
        unit=unit,
        desc=label,
        mininterval=0.5 if live else 10,
        ascii=not live,
        dynamic_ncols=live,
        **options,
    )
