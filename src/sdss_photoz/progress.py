"""Progress bars, and the package's log messages, on a terminal or in a log file."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager


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


class _StderrHandler(logging.StreamHandler):
    """Writes to `sys.stderr` as it is at the time of each message: `stage` replaces it while a script runs."""

    def __init__(self):
        logging.Handler.__init__(self)

    @property
    def stream(self):
        return sys.stderr


@contextmanager
def messages_on_stderr() -> Iterator[None]:
    """Write the package's log messages, from level INFO on, to stderr within the block: a line each, no prefix.

    Scripts and commands run in it. A program that imports the package configures `logging` as it likes.
    """
    logger = logging.getLogger("sdss_photoz")
    if any(isinstance(handler, _StderrHandler) for handler in logger.handlers):
        yield
        return
    handler, level = _StderrHandler(), logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
