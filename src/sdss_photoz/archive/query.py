"""The archive's doors for tables: the same question through any of them gives the same table.

A door is a function (question, config.Archive, folder) -> DataFrame; `folder` is the run's archive folder, where the
embedded archive has its catalogue and the others keep what a later start goes on from.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from sdss_photoz.archive.question import Question, ask_for, check_answer, forget, read_answer
from sdss_photoz.errors import UserError
from sdss_photoz.sample.footprint import centre_error

CENTRE_ALLOWED = 1.0  # arcsec from a field's ra, dec to its centre by node and inclination: 2.5 pixels


def _ask_embedded(question: Question, archive, folder) -> pd.DataFrame:
    from sdss_photoz.embedded import answer, tsql

    return read_answer(answer.to_csv(tsql.run(Path(folder) / "catalog.duckdb", question.sql)).encode())


def _ask_casjobs(question: Question, archive, folder) -> pd.DataFrame:
    from sdss_photoz.archive import casjobs

    return casjobs.ask(question, archive, folder)


def _ask_skyserver(question: Question, archive, folder) -> pd.DataFrame:
    from sdss_photoz.archive import skyserver

    return skyserver.ask(question, archive, folder)


DOORS = {"embedded": _ask_embedded, "casjobs": _ask_casjobs, "skyserver": _ask_skyserver}


def query_galaxies(archive, folder, region=None) -> pd.DataFrame:
    """Ask the archive for the galaxies of the sample.

    Parameters
    ----------
    archive : config.Archive
        Its `service` names the door.
    folder : str or Path
        The run's archive folder.
    region : config.Region, optional
        A box that the galaxies lie in.

    Returns
    -------
    DataFrame
        Rows as the archive gave them, columns named as in the query, ordered by ``specObjID``.

    Raises
    ------
    UserError
        Where the archive refuses the query, gives no row, or leaves a column out.
    """
    return _ask("galaxies", archive, folder, region)


def query_fields(archive, folder, region=None) -> pd.DataFrame:
    """Ask the archive where its fields lie on the sky.

    Parameters and errors are those of `query_galaxies`; with a region, fields that reach into it are asked for. Where
    `archive.window_flist` is set they are read from that file instead, as `flist.read_flist` gives them.

    Returns
    -------
    DataFrame
        One row a field: fieldID, run, camcol, field, stripe, strip, node, incl, a … f (r band) and a_u … f_z (each
        band; degrees and degrees a pixel), centre and bounds, psfWidth_u … psfWidth_z (arcsec), sky_u … sky_z
        (nanomaggies per square arcsec), ordered by ``fieldID``: by run, camcol and field.

    Raises
    ------
    UserError
        Also where a field's node, inclination and terms do not lead to its own centre.
    """
    if archive.window_flist is not None:
        from sdss_photoz.archive.flist import read_flist

        return read_flist(archive.window_flist, region)
    return _ask("fields", archive, folder, region)


def _check_centres(fields: pd.DataFrame, service: str) -> None:
    """Refuse fields that lie elsewhere than they say: with a rounded node their edges are misplaced, frames missed."""
    error = centre_error(fields)
    bad = ~(error <= CENTRE_ALLOWED)  # nor is NaN
    if not bad.any():
        return
    worst = int(np.argmax(np.where(np.isnan(error), np.inf, error)))
    run, camcol, field = (fields[name].iloc[worst] for name in ("run", "camcol", "field"))
    node, incl, ra, dec = (f"{fields[name].iloc[worst]:.9g}" for name in ("node", "incl", "ra", "dec"))
    raise UserError(
        f"the {service} archive's node and inclination are not the exact ones in {bad.sum()} of {len(fields)} fields: "
        f"with node {node} and incl {incl} the centre of field {run}-{camcol}-{field} lies {error[worst]:.1f} arcsec "
        f"from its ra {ra}, dec {dec}, and {CENTRE_ALLOWED:g} arcsec is allowed, for galaxies at its edges would miss "
        "frames: set archive.window_flist to the survey's own list of fields, where such an error widens the margin."
    )


def _ask(name, archive, folder, region):
    question = ask_for(name, region)
    table = DOORS[archive.service](question, archive, folder)
    try:
        table = check_answer(question, table, archive.service)
        if name == "fields":
            _check_centres(table, archive.service)
        return table
    except UserError:
        forget(folder, name)  # or the next run would read the same answer
        raise
