"""A sample of galaxies with published cubes: what each cut leaves, and labels that are not the archive's."""

import numpy as np
import pandas as pd
import pytest

from sdss_photoz.config import Sample
from sdss_photoz.sample.paper_labels import cubes_without_row, difference_counts, differing_labels
from sdss_photoz.sample.selection import select
from sdss_photoz.surveys import SDSS
from sdss_photoz.surveys.sdss import object_id

KINDS = ("modelMag", "extinction")


def archive_rows(n):
    """The archive's rows of galaxies far from each other."""
    table = pd.DataFrame({"specObjID": np.arange(n) + 10**17, "objID": object_id(3900, 6, 269, np.arange(n) + 1)})
    table = table.assign(bestObjID=table.objID, sciencePrimary=1, z=0.1, zErr=1e-5, ra=np.arange(n) * 1.0, dec=0.0)
    return table.assign(e_bv_sfd=0.05, dered_petro_r=17.0, **{f"{k}_{b}": 17.0 for k in KINDS for b in SDSS.band_names})


def published_of(rows, **values):
    """Labels of published cubes that are the archive's values."""
    table = pd.DataFrame({"row": range(len(rows)), "spec_id": rows["specObjID"].astype(np.uint64), "state": "ok"})
    return table.assign(z_spec=rows["z"], dered_petro_r=rows["dered_petro_r"], ebv=rows["e_bv_sfd"], **values)


def test_each_cut_of_the_published_cubes_is_counted_before_the_others():
    rows = archive_rows(8)
    published = published_of(rows).drop(index=[0, 1])
    published.loc[[2, 3, 4], "state"] = ["outside the paper's sample", "constant in u", "repeated spectrum"]
    again = published.loc[[4]].assign(state="ok", row=99)
    rows.loc[5, "sciencePrimary"] = 0
    galaxies, counts = select(rows, Sample(chunks=1), pd.concat([published, again]))
    assert counts["cut"].tolist()[1:5] == [
        "in the published cubes",
        "in the paper's sample of them",
        "good published cube",
        "primary spectrum",
    ]
    assert counts["galaxies"].tolist()[:5] == [8, 6, 5, 4, 3]
    assert sorted(galaxies["spec_id"] - 10**17) == [4, 6, 7]
    assert list(galaxies) == list(select(rows, Sample(chunks=1))[0])


def test_of_two_spectra_of_a_galaxy_the_published_one_stays():
    rows = archive_rows(2)
    rows["bestObjID"], rows["zErr"] = rows["bestObjID"][0], [1e-6, 1e-4]
    assert select(rows, Sample(chunks=1))[0]["spec_id"].tolist() == [10**17]
    galaxies, _ = select(rows, Sample(chunks=1), published_of(rows).drop(index=0))
    assert galaxies["spec_id"].tolist() == [10**17 + 1]


def test_good_published_cubes_without_a_row_of_the_archive_are_named():
    rows = archive_rows(6)
    published = published_of(rows)
    published.loc[4, "state"] = "outside the paper's sample"
    assert cubes_without_row(rows["specObjID"], published).empty
    assert cubes_without_row(rows["specObjID"][:2], published).tolist() == [10**17 + 2, 10**17 + 3, 10**17 + 5]


def test_labels_that_differ_are_listed_and_counted():
    rows = archive_rows(6)
    published = published_of(rows)
    published.loc[0, "z_spec"] += 0.9e-5
    published.loc[1, "z_spec"] += 2e-5
    published.loc[2, ["z_spec", "dered_petro_r"]] = [0.2, 17.004]
    published.loc[3, "dered_petro_r"] = 16.99
    published.loc[4, "ebv"] = np.nan
    published.loc[5, ["z_spec", "state"]] = [0.3, "repeated spectrum"]
    found = differing_labels(rows, published)
    assert list(found) == ["label", "object_id", "spec_id", "archive", "published"]
    assert found[["label", "spec_id"]].values.tolist() == [
        ["z_spec", 10**17 + 1],
        ["z_spec", 10**17 + 2],
        ["dered_petro_r", 10**17 + 3],
        ["ebv", 10**17 + 4],
    ]
    counts = difference_counts(found)
    assert counts["differing"].tolist() == [2, 1, 1]
    assert counts["largest"].tolist()[:2] == pytest.approx([0.1, 0.01])
    assert np.isnan(counts["largest"][2])
    assert difference_counts(differing_labels(rows, published_of(rows)))["differing"].tolist() == [0, 0, 0]
