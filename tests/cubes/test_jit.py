"""Compiled loops are cached where a cache can be written."""

import numba

from sdss_photoz.cubes.jit import cached_njit


def test_kernel_compiles_where_no_cache_can_be_kept(monkeypatch):
    def njit(cache=False, **options):
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return numba.njit(**options)

    monkeypatch.setattr("sdss_photoz.cubes.jit.njit", njit)
    assert cached_njit(lambda x: 2 * x)(3) == 6
