"""Compiled loops."""

from numba import njit


def compiled(function):
    """Compile with numba and keep the machine code beside the module, or in the user's cache, where one can be."""
    options = {"error_model": "numpy", "nogil": True}
    try:
        return njit(cache=True, **options)(function)
    except RuntimeError:  # neither folder can be written
        return njit(**options)(function)
