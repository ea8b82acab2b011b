"""CPU and wall times of alternately run functions, and peak memory of processes."""

import contextlib
import multiprocessing
import os
import re
import resource
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pandas as pd


def cpu_seconds() -> float:
    """Return the CPU seconds of this process and of its finished children."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def time_alternately(functions: dict[str, Callable], rounds: int, least: float = 0.1) -> pd.DataFrame:
    """Time functions alternately, so that other load of the machine affects all of them.

    Parameters
    ----------
    functions : dict
        Functions without arguments, by name.
    rounds : int
        Number of timed rounds, after one that is not timed.
    least : float
        Seconds for which a function is repeated in each round.

    Returns
    -------
    DataFrame
        wall, cpu: seconds of the fastest call; the index names the function.
    """
    best = {name: (float("inf"), float("inf")) for name in functions}
    for turn in range(rounds + 1):
        for name, function in functions.items():
            end = time.perf_counter() + least
            while True:
                wall, cpu = time.perf_counter(), cpu_seconds()
                function()
                wall, cpu = time.perf_counter() - wall, cpu_seconds() - cpu
                if turn:
                    best[name] = min(best[name][0], wall), min(best[name][1], cpu)
                if time.perf_counter() > end or not turn:
                    break
    return pd.DataFrame.from_dict(best, orient="index", columns=["wall", "cpu"])


def peak_gigabytes() -> float:
    """Return the peak memory of this process (GB); `ru_maxrss` would include that of the parent process."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e9  # bytes on macOS
    return int(re.search(r"VmHWM:\s+(\d+) kB", status.read_text())[1]) / 1e6


def in_own_process(function: Callable, *arguments):
    """Return the result of a function called in a new process."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as executor:
        return executor.submit(function, *arguments).result()


@contextlib.contextmanager
def quiet():
    """Suppress progress bars."""
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):
        yield
