"""Groups of positions on the sphere, by friends of friends."""

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree


def unit_vectors(ra, dec):
    """Unit vectors (n, 3) of positions in degrees."""
    ra, dec = np.radians(np.asarray(ra, float)), np.radians(np.asarray(dec, float))
    return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=-1)


def pairs_within(ra, dec, radius):
    """Pairs of positions within `radius` (arcsec) of each other, also across RA 0 and the poles.

    Returns
    -------
    array of int, shape (pairs, 2)
        Indices, the smaller one first.
    """
    chord = 2 * np.sin(np.radians(radius / 3600) / 2)
    tree = cKDTree(unit_vectors(ra, dec))
    return tree.query_pairs(chord, output_type="ndarray")


def linked(ra, dec, radius):
    """Label positions that are linked by chains of steps no longer than `radius`.

    Parameters
    ----------
    ra, dec : array of float, shape (n,)
        Degrees.
    radius : float
        Linking length (arcsec).

    Returns
    -------
    array of int, shape (n,)
        Label of each position's group.
    """
    ra, dec = np.asarray(ra, float), np.asarray(dec, float)
    n = len(ra)
    if n == 0:
        return np.zeros(0, dtype=np.int64)
    known = np.flatnonzero(np.isfinite(ra) & np.isfinite(dec))  # NaN positions are linked to nothing
    first, second = known[pairs_within(ra[known], dec[known], radius)].T
    graph = coo_array((np.ones(len(first), dtype=np.int8), (first, second)), shape=(n, n))
    return connected_components(graph, directed=False)[1].astype(np.int64)
