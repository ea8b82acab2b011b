"""The Lanczos-3 kernel of the cubes as a function of the reproject package's interface, for any celestial WCS.

`reproject_lanczos3` replaces `reproject.reproject_interp` and similar functions, on its own or as the
``reproject_function`` of `reproject.mosaicking.reproject_and_coadd`.
"""

import numpy as np
from astropy.wcs import WCS
from astropy.wcs.utils import pixel_to_pixel, wcs_to_celestial_frame
from reproject.utils import parse_input_data, parse_output_projection

from sdss_photoz.cubes.frame import Tan
from sdss_photoz.cubes.resample import Projection, resample_positions

BLOCK = 1 << 20  # output pixels mapped at a time: astropy takes some 200 bytes for each


def reproject_lanczos3(
    input_data,
    output_projection,
    shape_out=None,
    hdu_in=0,
    *,
    exact: bool = False,
    conserve_flux: bool = False,
    roundtrip_coords: bool = True,
    output_array=None,
    output_footprint=None,
    return_footprint: bool = True,
    block_size=None,
):
    """Reproject an image with the Lanczos-3 kernel of the cubes.

    A pixel is a weighted sum of 6 x 6 input pixels, NaN if any of them is outside the input or not finite. The weights
    of each axis have unit sum, so a constant image stays constant. The kernel is not widened for output pixels larger
    than the input's: bin or smooth such images first.

    Parameters
    ----------
    input_data, output_projection, shape_out, hdu_in
        As for `reproject.reproject_interp`: file, HDU, (array, WCS or header) or NDData; header or WCS; (rows,
        columns). Any celestial projections. Leading axes that the WCS does not have are images of the same
        coordinates. Values are taken as float32.
    exact : bool
        Compute weights in float64, instead of interpolating a table of 4,096 steps: takes twice the time.
    conserve_flux : bool
        Multiply by the area of an output pixel over that of an input pixel at the centre of the input, as SWarp does,
        for values that are flux per pixel. Otherwise values are surface brightness, as in reproject's functions.
    roundtrip_coords : bool
        Set pixels to NaN whose coordinates do not map back to themselves (not done from TAN to TAN).
    output_array, output_footprint : ndarray, optional
        Arrays of the output's shape to write to.
    return_footprint : bool
        Whether to return the footprint.
    block_size : optional
        Ignored: pixels are always mapped in blocks of bounded size.

    Returns
    -------
    array : ndarray
        (..., y, x) float64, or `output_array`; NaN if the input does not cover the pixel.
    footprint : ndarray
        (..., y, x) float64, 1 for covered pixels and 0 for others.

    Raises
    ------
    ValueError
        If the input is not an image of two celestial axes, or shapes do not match.

    Examples
    --------
    >>> from reproject.mosaicking import reproject_and_coadd
    >>> mosaic, depth = reproject_and_coadd(frames, wcs, shape_out=(455, 455), reproject_function=reproject_lanczos3)
    """
    array_in, wcs_in = parse_input_data(input_data, hdu_in=hdu_in)
    wcs_out, shape_out = parse_output_projection(
        output_projection, shape_in=array_in.shape, shape_out=shape_out, output_array=output_array
    )
    for name, wcs in (("input", wcs_in), ("output", wcs_out)):
        if wcs.low_level_wcs.pixel_n_dim != 2:
            raise ValueError(f"the {name} has {wcs.low_level_wcs.pixel_n_dim} pixel axes, not two celestial ones")
    if array_in.shape[:-2] != shape_out[:-2]:
        raise ValueError(f"images of shape {array_in.shape} cannot be reprojected to {shape_out}: leading axes differ")
    if output_array is None:
        output_array = np.empty(shape_out)
    factor = _area_ratio(array_in.shape, wcs_in, wcs_out) if conserve_flux else 1.0
    to_input = _mapping(wcs_out, wcs_in, roundtrip_coords)
    height, width = shape_out[-2:]
    step = max(BLOCK // max(width, 1), 1)
    blocks = [slice(start, min(start + step, height)) for start in range(0, height, step)]
    places = [to_input(*np.mgrid[rows, :width][::-1].astype(float)) for rows in blocks]
    for index in np.ndindex(shape_out[:-2]):
        image = np.asarray(array_in[index])
        for rows, (x, y) in zip(blocks, places, strict=True):
            output_array[(*index, rows)] = resample_positions(image, x, y, exact=exact) * factor
    if not return_footprint:
        return output_array
    if output_footprint is None:
        output_footprint = np.empty(shape_out)
    output_footprint[...] = np.isfinite(output_array)
    return output_array, output_footprint


def _mapping(start, end, roundtrip: bool):
    """Return the function from pixels (x, y) of one WCS to those of another; NaN for pixels without a counterpart."""
    matrices = _tan_matrix(start), _tan_matrix(end)
    plain = all(matrix is not None for matrix in matrices)
    if plain and wcs_to_celestial_frame(start).is_equivalent_frame(wcs_to_celestial_frame(end)):
        return _homography(matrices[1] @ np.linalg.inv(matrices[0]))

    def mapped(x, y):
        places = pixel_to_pixel(start, end, x, y)
        if roundtrip:
            back = pixel_to_pixel(end, start, *places)
            returns = (np.abs(back[0] - x) <= 1) & (np.abs(back[1] - y) <= 1)
            places = [np.where(returns, place, np.nan) for place in places]
        return places

    return mapped


def _homography(matrix):
    def mapped(x, y):
        u, v, w = np.tensordot(matrix, np.stack([x, y, np.ones_like(x)]), axes=1)
        w = np.where(w > 0, w, np.nan)  # the other side of the sky
        return u / w, v / w

    return mapped


def _tan_matrix(wcs):
    """Return the matrix (3, 3) from unit vectors to pixels (x w, y w, w); None if the WCS is not a plain TAN."""
    if not isinstance(wcs, WCS) or list(wcs.wcs.ctype) != ["RA---TAN", "DEC--TAN"]:
        return None
    distortions = wcs.sip, wcs.cpdis1, wcs.cpdis2, wcs.det2im1, wcs.det2im2, *wcs.wcs.get_pv()
    if any(term is not None for term in distortions):
        return None
    wcs.wcs.set()  # sets defaults of missing keywords
    if wcs.wcs.lonpole != 180 or list(wcs.wcs.cunit) != ["deg", "deg"]:
        return None
    x, y = wcs.wcs.crpix - 1
    return Projection(Tan(*wcs.wcs.crval, x, y, tuple(wcs.pixel_scale_matrix.ravel()))).from_sky


def _area_ratio(shape, wcs_in, wcs_out) -> float:
    """Return the area of an output pixel over that of an input pixel, at the centre of the input."""
    y, x = ((length - 1) / 2 for length in shape[-2:])
    steps = np.array([[-0.5, 0.5, 0, 0], [0, 0, -0.5, 0.5]])
    u, v = _mapping(wcs_in, wcs_out, roundtrip=False)(x + steps[0], y + steps[1])
    area = abs((u[1] - u[0]) * (v[3] - v[2]) - (u[3] - u[2]) * (v[1] - v[0]))  # of an input pixel, in output pixels
    if not area > 0:
        raise ValueError("conserve_flux needs an output that reaches the side of the sky where the input's middle lies")
    return 1 / area
