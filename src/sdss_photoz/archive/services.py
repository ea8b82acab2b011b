"""The services that answer queries of the archive's tables: embedded, CasJobs, SkyServer. All give the same table.

Each is a function (Query, config.Archive, folder) -> DataFrame. `folder` is the run's archive folder: it holds the
embedded archive's catalogue, and the partial results of the other services.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from sdss_photoz.archive.query import Query, build_query, check_result, read_result, remove_state
from sdss_photoz.errors import UserError
from sdss_photoz.surveys.great_circle import centre_error

MAX_CENTRE_ERROR = 1.0  # arcsec between a field's ra, dec and its centre by node and inclination: 2.5 pixels


def _run_embedded(query: Query, archive, folder) -> pd.DataFrame:
    from sdss_photoz.embedded import answer, tsql

    return read_result(answer.to_csv(tsql.run(Path(folder) / "catalog.duckdb", query.sql)).encode())


def _run_casjobs(query: Query, archive, folder) -> pd.DataFrame:
    from sdss_photoz.archive import casjobs

    return casjobs.run_query(query, archive, folder)


def _run_skyserver(query: Query, archive, folder) -> pd.DataFrame:
    from sdss_photoz.archive import skyserver

    return skyserver.run_query(query, archive, folder)


SERVICES = {"embedded": _run_embedded, "casjobs": _run_casjobs, "skyserver": _run_skyserver}


def query_galaxies(archive, folder, region=None, planned=None) -> pd.DataFrame:
    """Query the galaxies of the sample.

    Parameters
    ----------
    archive : config.Archive
        Its `service` answers the query.
    folder : str or Path
        The run's archive folder.
    region : config.Region, optional
        A box on the sky that limits the galaxies.
    planned : str, optional
        SHA-256 that the file of `archive.query` must have, where that is set.

    Returns
    -------
    DataFrame
        The archive's rows, columns named as in the query, ordered by ``specObjID``.

    Raises
    ------
    UserError
        If the archive refuses the query, returns no row, or omits a column; with `archive.query` also if that is no
        query that can be asked (`own_query`), or gives a spectrum twice.
    """
    if archive.query is None:
        return _run(build_query("galaxies", region), archive, folder)
    from sdss_photoz.archive.own_query import own_query

    return _run(own_query(archive.query, region, planned), archive, folder)


def query_fields(archive, folder, region=None) -> pd.DataFrame:
    """Query where the survey's fields lie on the sky.

    Parameters and errors are those of `query_galaxies`; a region limits the fields to those that overlap it. With
    `archive.window_flist` set they are read from that file (`flist.read_flist`).

    Returns
    -------
    DataFrame
        One row per field: fieldID, run, camcol, field, stripe, strip, node, incl, a … f (r band) and a_u … f_z (each
        band; degrees, degrees per pixel), centre and bounds, psfWidth_u … psfWidth_z (arcsec), sky_u … sky_z
        (nanomaggies per square arcsec), ordered by ``fieldID``: by run, camcol and field.

    Raises
    ------
    UserError
        Also if node, inclination and terms of a field do not give its own ra and dec (`MAX_CENTRE_ERROR`).
    """
    if archive.window_flist is not None:
        from sdss_photoz.archive.flist import read_flist

        return read_flist(archive.window_flist, region)
    return _run(build_query("fields", region), archive, folder)


def _check_centres(fields: pd.DataFrame, service: str) -> None:
    """Refuse fields whose node and inclination do not give their ra, dec: rounded ones would miss frames."""
    error = centre_error(fields)
    bad = ~(error <= MAX_CENTRE_ERROR)  # NaN is bad too
    if not bad.any():
        return
    worst = int(np.argmax(np.where(np.isnan(error), np.inf, error)))
    run, camcol, field = (fields[name].iloc[worst] for name in ("run", "camcol", "field"))
    node, incl, ra, dec = (f"{fields[name].iloc[worst]:.9g}" for name in ("node", "incl", "ra", "dec"))
    raise UserError(
        f"the {service} archive's node and inclination are not the exact ones in {bad.sum()} of {len(fields)} fields: "
        f"with node {node} and incl {incl} the centre of field {run}-{camcol}-{field} lies {error[worst]:.1f} arcsec "
        f"from its ra {ra}, dec {dec}, and {MAX_CENTRE_ERROR:g} arcsec is allowed, for galaxies at its edges would "
        "miss frames: set archive.window_flist to the survey's own list of fields, where such an error widens the "
        "margin."
    )


def _check_spectra(galaxies: pd.DataFrame, query: Query, archive) -> None:
    """Refuse rows of one spectrum, as a JOIN with several rows of another table makes them."""
    repeated = galaxies[query.key][galaxies[query.key].duplicated()]
    if len(repeated):
        raise UserError(
            f"archive.query {archive.query} gave {query.key} {repeated.iloc[0]} more than once, and "
            f"{repeated.nunique()} such spectra in all: join one row of each table to a spectrum."
        )


def _run(query, archive, folder):
    table = SERVICES[archive.service](query, archive, folder)
    try:
        table = check_result(query, table, archive.service)
        if query.name == "fields":
            _check_centres(table, archive.service)
        elif archive.query is not None:
            _check_spectra(table, query, archive)
        return table
    except UserError:
        remove_state(folder, query.name)  # or the next run would read the same result
        raise
