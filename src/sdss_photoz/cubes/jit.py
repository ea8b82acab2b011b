"""Just-in-time compilation of numeric loops with numba."""

from numba import njit


def cached_njit(function):
    """Compile a function with numba and cache its machine code on disk.

    The cache lies beside the module or in the user's cache folder. Where neither can be written the function is
    compiled anew in each process. Division by zero follows NumPy, and the GIL is released.
    """
    options = {"error_model": "numpy", "nogil": True}
    try:
        return njit(cache=True, **options)(function)
    except RuntimeError:  # numba found no folder that it can write
        return njit(**options)(function)
