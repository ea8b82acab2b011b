"""Which positions belong together: friends of friends on the sphere."""

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree


def unit_vectors(ra, dec):
    """Unit vectors (n, 3) of positions in degrees."""
    ra, dec = np.radians(np.asarray(ra, float)), np.radians(np.asarray(dec, float))
    return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=-1)


def pairs_within(ra, dec, radius):
    """Pairs of positions no farther apart than `radius` (arcsec), right at RA 0 and at the poles.

    Returns
    -------
    array of int, shape (pairs, 2)
        Indices, the smaller first.
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
        Positions with the same label belong together.
    """
    ra, dec = np.asarray(ra, float), np.asarray(dec, float)
    n = len(ra)
    if n == 0:
        return np.zeros(0, dtype=np.int64)
    known = np.flatnonzero(np.isfinite(ra) & np.isfinite(dec))  # what has no position is linked to nothing
    first, second = known[pairs_within(ra[known], dec[known], radius)].T
    graph = coo_array((np.ones(len(first), dtype=np.int8), (first, second)), shape=(n, n))
    return connected_components(graph, directed=False)[1].astype(np.int64)
