"""Times that are taken in turn, and memory of processes of their own."""

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
    """Processor seconds of this process and of those that it started and waited for."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def in_turn(contestants: dict[str, Callable], rounds: int, least: float = 0.1) -> pd.DataFrame:
    """Run each contestant in each round, so that other work on the machine disturbs all alike.

    Parameters
    ----------
    contestants : dict
        Functions without arguments.
    rounds : int
        How often each has its turn, after one that is not timed.
    least : float
        Seconds that a turn lasts at least: a function that takes less is run more than once.

    Returns
    -------
    DataFrame
        wall, cpu: seconds of the fastest run of each contestant, which the index names.
    """
    best = {name: (float("inf"), float("inf")) for name in contestants}
    for turn in range(rounds + 1):
        for name, function in contestants.items():
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
    """Largest memory of this process so far; `ru_maxrss` would count that of the process which started it."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e9  # bytes on macOS
    return int(re.search(r"VmHWM:\s+(\d+) kB", status.read_text())[1]) / 1e6


def in_own_process(function: Callable, *arguments):
    """What a function returns in a new process."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as executor:
        return executor.submit(function, *arguments).result()


@contextlib.contextmanager
def quiet():
    """Keep progress bars off the terminal."""
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):
        yield
