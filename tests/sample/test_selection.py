"""Each galaxy once, in the order of the sky, in chunks of which none is empty."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdss_photoz.archive.services import query_galaxies
from sdss_photoz.config import Archive, Sample
from sdss_photoz.errors import UserError
from sdss_photoz.sample.chunks import INNER_CHUNK, shard_length, shard_shape
from sdss_photoz.sample.selection import select
from sdss_photoz.surveys import SDSS
from sdss_photoz.surveys.catalogue import example_row
from sdss_photoz.surveys.sdss import object_id
from sdss_photoz.surveys.sphere import unit_vectors


def rows(ra, dec, **values):
    """The archive's rows of galaxies at given places, each with its own object and spectrum."""
    n = len(ra)
    table = pd.DataFrame({"specObjID": np.arange(n) + 10**17, "objID": object_id(3900, 6, 269, np.arange(n) + 1)})
    table = table.assign(bestObjID=table.objID, sciencePrimary=1, z=0.1, zErr=1e-5, ra=ra, dec=dec, e_bv_sfd=0.05)
    table = table.assign(dered_petro_r=17.0, subClass="", zphot=0.11, run=3900, camcol=6, field=269, stripe=26)
    table = table.assign(neighbors=0, **{f"modelMag_{band}": np.float32(17) for band in SDSS.band_names})
    table = table.assign(**{f"extinction_{band}": np.float32(0.1) for band in SDSS.band_names})
    return table.assign(**values)


def chosen(table, **sample):
    return select(table, Sample(**{"chunks": 1, **sample}))


def left(counts):
    return dict(zip(counts["cut"], counts["galaxies"], strict=True))


def test_every_cut_is_counted_in_order():
    table = rows(np.arange(12) * 1.0, np.zeros(12))
    table.loc[0, "sciencePrimary"] = 0
    table.loc[2, "bestObjID"] = table.loc[1, "bestObjID"]
    table.loc[4, ["ra", "dec"]] = [3.0, 1.5 / 3600]
    table.loc[5, "z"] = 0.41
    table.loc[6, "dered_petro_r"] = 17.81
    table.loc[7, "dered_petro_r"] = -9999 - 0.1
    table.loc[8, "modelMag_u"] = -9999
    galaxies, counts = chosen(table)
    assert list(counts["galaxies"]) == [12, 11, 10, 9, 8, 7, 5]
    assert list(counts["removed"]) == [0, 1, 1, 1, 1, 1, 2]
    assert list(counts["cut"][1:4]) == ["primary spectrum", "unique best object", "unique within 2 arcsec"]
    assert len(galaxies) == 5


def test_a_lower_limit_of_redshift_is_a_cut_of_its_own():
    table = rows(np.arange(6) * 1.0, np.zeros(6), z=[0.0, 0.01, 0.05, 0.1, 0.6, 4.0])
    galaxies, counts = chosen(table, z_min=0.05, z_max=0.7)
    assert sorted(galaxies["z_spec"]) == [0.05, 0.1, 0.6]
    assert list(counts["cut"][4:6]) == ["z <= 0.7", "z >= 0.05"]
    assert list(counts["removed"][4:6]) == [1, 2]
    assert len(chosen(table)[1]) == len(counts) - 1
    assert chosen(table, z_max=10.0)[0]["z_spec"].max() == 4


def test_a_condition_is_the_last_cut_and_says_what_lacks_a_value():
    table = rows(np.arange(6) * 1.0, np.zeros(6), zphot=[0.1, 0.2, -9999, 0.4, -9999, 0.05])
    table.loc[4, "z"] = 0.5
    galaxies, counts = chosen(table, where="z_archive > 0.1\n  and not z_archive == 0.4")
    assert list(galaxies["z_archive"]) == [0.2]
    assert counts[-2:].to_numpy().tolist() == [
        ["measured values of sample.where", 4, 1],
        ["z_archive > 0.1 and not z_archive == 0.4", 1, 3],
    ]
    with pytest.raises(UserError, match=r"sample\.where is 'ebv > 1', which none of 5 galaxies fulfils: loosen it"):
        chosen(table, where="ebv > 1")


def test_the_columns_that_conditions_may_name_are_those_of_the_sample(catalog):
    """The check before the run takes them from a list, for there is no sample yet."""
    galaxies, _ = chosen(query_galaxies(Archive(), catalog.parent))
    example = pd.DataFrame(example_row())
    assert set(galaxies) == {*example, "row", "chunk"}
    for name in example:
        assert pd.api.types.is_numeric_dtype(galaxies[name]) == pd.api.types.is_numeric_dtype(example[name]), name
    assert galaxies["object_id"].dtype == example["object_id"].dtype
    assert galaxies["spec_id"].dtype == example["spec_id"].dtype


def test_of_two_spectra_the_smaller_redshift_error_stays():
    table = rows([10.0, 20.0, 20.0], [0.0, 5.0, 5.0 + 1 / 3600], zErr=[1e-5, 3e-5, 2e-5], z=[0.1, 0.2, 0.3])
    assert sorted(chosen(table)[0].z_spec) == [0.1, 0.3]
    assert sorted(chosen(table.iloc[::-1])[0].z_spec) == [0.1, 0.3]


def test_an_unmeasured_row_never_displaces_a_measured_one():
    table = rows([20.0, 20.0], [5.0, 5.0], zErr=[1e-6, 2e-5], z=[0.1, 0.2], modelMag_r=[-9999.0, 17.0])
    assert list(chosen(table)[0].z_spec) == [0.2]
    table = rows([20.0, 20.0], [5.0, 5.0], zErr=[-9999.0, 2e-5], z=[0.1, 0.2])
    assert list(chosen(table)[0].z_spec) == [0.2]


@pytest.mark.parametrize(
    ("ra", "dec"),
    [
        ([359.9998, 0.0002], [10.0, 10.0]),
        ([0.0, 180.0], [89.9998, 89.9998]),
        ([40.0, 40.0], [-89.9999, -89.9996]),
        ([120.0, 120.0 + 1.9 / 3600 / np.cos(np.radians(60))], [60.0, 60.0]),
    ],
)
def test_nearer_than_two_arcsec_is_one_galaxy_everywhere_on_the_sphere(ra, dec):
    assert len(chosen(rows(ra, dec))[0]) == 1
    assert len(chosen(rows(ra, dec), match_radius=0.1)[0]) == 2


@pytest.mark.parametrize(
    ("ra", "dec"), [([0.0, 360.0], [10.0, 10.0]), ([350.0, -10.0], [5.0, 5.0]), ([10.0, 200.0], [90.0, 90.0])]
)
def test_one_place_written_in_two_ways_is_one_galaxy_and_one_place_in_the_order(ra, dec):
    assert len(chosen(rows(ra, dec))[0]) == 1
    places = rows([*ra, 100.0, 300.0], [*dec, -40.0, 40.0])
    orders = [list(chosen(places.drop(index=left_out))[0].dec) for left_out in (0, 1)]
    assert orders[0] == orders[1]


def test_chains_of_near_objects_are_one_galaxy():
    table = rows([30.0] * 4, np.array([0, 1.5, 3.0, 6.0]) / 3600, zErr=[4e-5, 3e-5, 2e-5, 1e-5])
    assert sorted(chosen(table)[0].dec * 3600) == pytest.approx([3.0, 6.0])


def test_missing_values_become_nan_and_names_are_ours():
    table = rows([1.0, 2.0], [0.0, 0.0], petroMag_u=[-9999.0, 19.0], zphot=[-9999.0, 0.1])
    galaxies = chosen(table)[0]
    assert galaxies.petro_mag_u.isna().sum() == galaxies.z_archive.isna().sum() == 1
    assert galaxies.object_id.dtype == np.int64
    assert galaxies.spec_id.dtype == np.uint64
    assert {"ebv", "z_spec", "z_err", "n_neighbors", "subclass", "stripe"} <= set(galaxies)
    assert not {"bestObjID", "best_object", "science_primary"} & set(galaxies)


@pytest.mark.parametrize("column", ["z", "e_bv_sfd", "dered_petro_r", "bestObjID", "sciencePrimary", "modelMag_u"])
def test_a_missing_column_is_named(column):
    with pytest.raises(UserError, match=f"lacks the column {column}"):
        chosen(rows([1.0], [2.0]).drop(columns=column))


def test_a_sample_without_galaxies_is_one_sentence():
    with pytest.raises(UserError, match="has no galaxies"):
        chosen(rows([1.0], [2.0], z=0.5))


def test_neighbours_on_the_sky_are_neighbours_in_the_cubes():
    rng = np.random.default_rng(1)
    ra, dec = rng.uniform(0, 360, 4000), np.degrees(np.arcsin(rng.uniform(-1, 1, 4000)))
    galaxies = chosen(rows(ra, dec), chunks=8)[0]
    assert list(galaxies.row) == list(range(4000))
    assert galaxies.chunk.is_monotonic_increasing
    assert set(galaxies.chunk) == set(range(8))
    vectors = unit_vectors(galaxies.ra, galaxies.dec)
    apart = np.degrees(np.arccos(np.clip(np.sum(vectors[1:] * vectors[:-1], axis=1), -1, 1)))
    assert np.median(apart) < 5  # 4,000 galaxies on the whole sky lie 3 degrees from their neighbours


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(1, 60))
def test_the_selection_does_not_depend_on_the_order_of_rows(seed, n):
    rng = np.random.default_rng(seed)
    table = rows(
        rng.uniform(0, 0.01, n), rng.uniform(0, 0.01, n), zErr=rng.uniform(1e-6, 1e-4, n), z=rng.uniform(0, 0.5, n)
    )
    table["bestObjID"] = rng.choice(table["objID"], n)
    if (table["z"] > 0.4).all():
        table.loc[0, "z"] = 0.1
    try:
        expected = chosen(table)
    except UserError:
        return
    shuffled = chosen(table.iloc[rng.permutation(n)])
    for one, other in zip(expected, shuffled, strict=True):
        pd.testing.assert_frame_equal(one, other)


def test_shards_hold_every_galaxy_and_no_chunk_is_empty_for_1_to_5000():
    for n in range(1, 5001):
        for chunks in {1, 2, 3, 4, 7, 16, 39, 40, 100, 128, 129, n // 3 + 1, n // 2 + 1, n - 1, n, n + 1} - {0}:
            length = -(-n // chunks)
            inner_chunks = -(-length // INNER_CHUNK)
            try:
                shard, inner = shard_shape(n, chunks)
            except UserError as error:
                works = int(str(error).rsplit(" ", 1)[1].rstrip("."))
                assert works < chunks
                assert (works - 1) * shard_length(n, works) < n
                continue
            assert inner <= INNER_CHUNK
            assert shard == inner_chunks * inner
            assert length <= shard < length + inner_chunks  # rounded up by less than an inner chunk
            assert (chunks - 1) * shard < n <= chunks * shard


def test_the_named_number_of_chunks_is_the_largest_that_works():
    def works(n, chunks):
        try:
            return bool(shard_shape(n, chunks))
        except UserError:
            return False

    for n in (1, 2, 10, 129, 200):
        for chunks in range(1, n + 3):
            if not works(n, chunks):
                with pytest.raises(UserError) as refusal:
                    shard_shape(n, chunks)
                named = int(str(refusal.value).rsplit(" ", 1)[1].rstrip("."))
                assert named == max(fewer for fewer in range(1, chunks) if works(n, fewer))
