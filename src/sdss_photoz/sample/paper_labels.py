"""Comparison of the published cubes' labels with the archive's rows: galaxies in both, and differing values."""

import numpy as np
import pandas as pd

OK, OUTSIDE, REPEATED = "ok", "outside the paper's sample", "repeated spectrum"  # states of a published cube
COMPARED = {  # our name: the archive's, and the largest difference that counts as none
    "z_spec": ("z", 1e-5),
    "dered_petro_r": ("dered_petro_r", 0.005),
    "ebv": ("e_bv_sfd", 0.001),
}


def published_cuts(spec_id: pd.Series, published: pd.DataFrame) -> dict[str, pd.Series]:
    """Cuts that the published file makes in the archive's rows.

    Parameters
    ----------
    spec_id : Series
        (row,) spectra of the archive's rows.
    published : DataFrame
        spec_id, state: a row per published cube.

    Returns
    -------
    dict of str to Series
        Name of each cut, in order, and which rows pass it, each independent of the others.
    """
    state = spec_id.map(published[published["state"] != REPEATED].set_index("spec_id")["state"])
    return {
        "in the published cubes": state.notna(),
        "in the paper's sample of them": state != OUTSIDE,
        "good published cube": state == OK,
    }


def differing_labels(galaxies: pd.DataFrame, published: pd.DataFrame) -> pd.DataFrame:
    """Labels of the published cubes that differ from the archive's values for the same spectrum.

    Parameters
    ----------
    galaxies : DataFrame
        The archive's rows, named as in its queries.
    published : DataFrame
        spec_id, state, z_spec, dered_petro_r (mag), ebv (mag): a row for each published cube.

    Returns
    -------
    DataFrame
        label, object_id, spec_id, archive, published: a row per label that differs by more than `COMPARED` allows.
    """
    both = pd.DataFrame(
        {
            "object_id": galaxies["objID"].astype(np.int64),
            "spec_id": galaxies["specObjID"].astype(np.uint64),
            **{f"archive {label}": galaxies[name].astype(float) for label, (name, _) in COMPARED.items()},
        }
    ).merge(published[published["state"] != REPEATED], on="spec_id")
    found = []
    for label, (_, allowed) in COMPARED.items():
        values = both[["object_id", "spec_id"]].assign(archive=both[f"archive {label}"], published=both[label])
        values.insert(0, "label", label)
        found.append(values[~((values["archive"] - values["published"]).abs() <= allowed)])
    return pd.concat(found, ignore_index=True)


def cubes_without_row(spec_id: pd.Series, published: pd.DataFrame) -> pd.Series:
    """Spectra of good published cubes that have no row in the archive's result.

    Parameters
    ----------
    spec_id : Series
        (row,) spectra of the archive's rows.
    published : DataFrame
        spec_id, state: a row for each published cube.

    Returns
    -------
    Series
        Their spec_id, in the order of the published file.
    """
    good = published.loc[published["state"] == OK, "spec_id"]
    return good[~good.isin(spec_id.astype(np.uint64))]


def difference_counts(differing: pd.DataFrame) -> pd.DataFrame:
    """Count the differing labels, with the largest difference.

    Returns
    -------
    DataFrame
        label, allowed (the difference that counts as none), differing (galaxies), largest (difference).
    """
    apart = (differing["archive"] - differing["published"]).abs().groupby(differing["label"])
    return pd.DataFrame(
        {
            "label": list(COMPARED),
            "allowed": [allowed for _, allowed in COMPARED.values()],
            "differing": apart.size().reindex(COMPARED, fill_value=0).to_numpy(int),
            "largest": apart.max().reindex(COMPARED).to_numpy(float),
        }
    )
