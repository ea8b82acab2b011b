"""The published file is checked once, in little memory; its cubes come out as they went in, and flaws are named."""

import os
import resource
import subprocess
import sys
import zipfile

import numpy as np
import pandas as pd
import pytest
from tests.fixtures.synthetic_npz import COLUMNS, cubes_of, labels_of, magnitudes, spec_id, write_npz

from sdss_photoz.cubes import npz
from sdss_photoz.cubes.layout import create_store
from sdss_photoz.cubes.load import load_cubes
from sdss_photoz.cubes.published import copy_chunk, read_cubes, read_published
from sdss_photoz.errors import UserError

N = 130
CUBES = cubes_of(magnitudes(N))


def published(path, cube=CUBES, labels=None, **options):
    return write_npz(path, cube=cube, labels=labels_of(len(cube)) if labels is None else labels, **options)


def refusal(path, folder):
    """The one sentence that refuses a file; it leaves nothing behind."""
    with pytest.raises(UserError) as refused:
        read_published(path, folder)
    assert not folder.exists() or not list(folder.iterdir())
    sentence = str(refused.value)
    assert sentence.endswith(".")
    assert "\n" not in sentence
    assert str(path) in sentence
    return sentence


@pytest.mark.parametrize("zip64", [False, True])
@pytest.mark.parametrize("deflated", [False, True])
def test_cubes_come_out_bit_for_bit_in_any_order(tmp_path, deflated, zip64):
    path = published(tmp_path / "sdss.npz", deflated=deflated, zip64=zip64)
    table, place = read_published(path, tmp_path / "archive")
    assert list(table) == ["row", "spec_id", "z_spec", "dered_petro_r", "primtarget", "ebv", "state"]
    assert (table["state"] == "ok").all()
    assert table["spec_id"].dtype == np.uint64
    assert table["spec_id"].tolist() == spec_id(np.arange(N)).tolist()
    rows = [77, 3, 129, 3, 0]
    assert read_cubes(place, rows).tobytes() == CUBES[rows].tobytes()
    unpacked = tmp_path / "archive" / "published.npy"
    assert unpacked.exists() == deflated
    if deflated:
        np.testing.assert_array_equal(np.load(unpacked), CUBES)


@pytest.mark.parametrize(
    ("damage", "state"),
    [(0.0, "constant in ugriz"), (np.nan, "not finite in ugriz")],
)
def test_a_cube_without_image_is_named_and_the_others_stay(tmp_path, damage, state):
    cubes = CUBES.copy()
    cubes[5] = damage
    cubes[6, 10, 11, 3] = np.inf
    cubes[7, :, :, 0] = 0.25
    states = read_published(published(tmp_path / "sdss.npz", cubes), tmp_path)[0]["state"]
    assert states[[5, 6, 7]].tolist() == [state, "not finite in i", "constant in u"]
    assert (states.drop([5, 6, 7]) == "ok").all()


def test_the_papers_sample_is_told_apart(tmp_path):
    labels = labels_of(N)
    labels["z"][1], labels["dered_petro_r"][2], labels["primtarget"][3] = 0.41, 17.81, 32
    labels["z"][4], labels["z"][5] = 0.4 - 1e-7, np.nan
    states = read_published(published(tmp_path / "sdss.npz", labels=labels), tmp_path)[0]["state"]
    assert states[[1, 2, 3, 5]].unique().tolist() == ["outside the paper's sample"]
    assert (states.drop([1, 2, 3, 5]) == "ok").all()


def test_of_a_repeated_spectrum_the_first_good_cube_counts(tmp_path):
    cubes, labels = CUBES.copy(), labels_of(N)
    cubes[1] = 0
    labels["specObjID"][[2, 3]] = labels["specObjID"][1]
    states = read_published(published(tmp_path / "sdss.npz", cubes, labels), tmp_path)[0]["state"]
    assert states[[1, 2, 3]].tolist() == ["repeated spectrum", "ok", "repeated spectrum"]


@pytest.mark.parametrize("kind", ["<u8", "<f8", "S20", "U20"])
def test_names_in_any_case_and_identifiers_of_any_kind_are_read(tmp_path, kind):
    columns = [(name.upper(), kind if name == "specObjID" else form) for name, form in COLUMNS]
    labels = labels_of(N).astype(columns)
    table, _ = read_published(published(tmp_path / "sdss.npz", labels=labels), tmp_path)
    assert table["spec_id"].tolist() == spec_id(np.arange(N)).tolist()


@pytest.mark.parametrize(
    ("cube", "words"),
    [
        (CUBES.astype("f8"), "float64"),
        (CUBES.astype(">f4"), ">f4"),
        (CUBES[:, :, :, :4], r"(130, 64, 64, 4)"),
        (np.ascontiguousarray(np.moveaxis(CUBES, 3, 1)), "(130, 5, 64, 64)"),
        (np.asfortranarray(CUBES), "Fortran order"),
        (np.float32(1), "no axis"),
        (np.array([None, 1], object), "Python objects"),
        (CUBES[:129], "one row for each of 129 cubes"),
    ],
)
def test_another_array_than_the_published_cubes_is_refused(tmp_path, cube, words):
    assert words in refusal(published(tmp_path / "sdss.npz", cube, labels_of(N)), tmp_path / "archive")


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (np.zeros((N, 64)), "no named columns"),
        (labels_of(N).astype([(name, "O" if name == "class" else form) for name, form in COLUMNS]), "column 'class'"),
        (labels_of(N)[["specObjID", "z", "primtarget", "EBV"]].copy(), "lacks a column dered_petro_r"),
        (labels_of(N).astype([(name, "f4" if name == "specObjID" else form) for name, form in COLUMNS]), "64 bits"),
        (labels_of(N, [(name, "S4" if name == "z" else form) for name, form in COLUMNS], z=b"far"), "column z"),
        (labels_of(N)[:-1], "one row for each"),
    ],
)
def test_another_table_than_the_published_labels_is_refused(tmp_path, labels, words):
    assert words in refusal(published(tmp_path / "sdss.npz", labels=labels), tmp_path / "archive")


@pytest.mark.parametrize("deflated", [False, True])
def test_labels_in_another_order_than_the_cubes_are_refused(tmp_path, deflated):
    path = published(tmp_path / "sdss.npz", CUBES[::-1], deflated=deflated)
    assert "not in the order of its cubes" in refusal(path, tmp_path / "archive")


@pytest.mark.parametrize("name", ["cube", "labels"])
def test_a_missing_array_is_named(tmp_path, name):
    arrays = {"cube": CUBES, "labels": labels_of(N)}
    arrays["catalogue"] = arrays.pop(name)
    assert f"no array '{name}'" in refusal(write_npz(tmp_path / "sdss.npz", **arrays), tmp_path / "archive")


def test_a_file_that_is_not_there_is_named(tmp_path):
    assert "No such file" in refusal(tmp_path / "sdss.npz", tmp_path / "archive")


@pytest.mark.parametrize("deflated", [False, True])
def test_a_truncated_file_is_refused(tmp_path, deflated):
    path = published(tmp_path / "sdss.npz", deflated=deflated)
    os.truncate(path, path.stat().st_size * 2 // 3)
    assert "not a whole npz file" in refusal(path, tmp_path / "archive")


@pytest.mark.parametrize("deflated", [False, True])
def test_a_flipped_byte_is_found(tmp_path, deflated):
    path = published(tmp_path / "sdss.npz", deflated=deflated)
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 0x10
    path.write_bytes(damaged)
    assert "not a whole npz file" in refusal(path, tmp_path / "archive")


def test_an_array_longer_than_its_header_says_is_refused(tmp_path):
    path = tmp_path / "sdss.npz"
    with zipfile.ZipFile(path, "w") as archive, archive.open("cube.npy", "w") as member:
        np.lib.format.write_array(member, CUBES)
        member.write(b"more")
    assert "need" in refusal(path, tmp_path / "archive")


def test_a_disk_without_room_is_told_before_and_while_it_fills(tmp_path):
    path = tmp_path / "large.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, dtype, shape in (("cube", "<f4", (10**9, 64, 64, 5)), ("labels", COLUMNS, (10**9,))):
            with archive.open(f"{name}.npy", "w") as member:
                np.lib.format.write_array_header_1_0(member, {"descr": dtype, "fortran_order": False, "shape": shape})
            archive.getinfo(f"{name}.npy").file_size += int(np.prod(shape)) * np.dtype(dtype).itemsize
    assert "need 81,920.00 GB in" in refusal(path, tmp_path / "archive")
    path = published(tmp_path / "sdss.npz", deflated=True)
    command = (
        "import sys; from sdss_photoz.cubes.published import read_published; read_published(sys.argv[1], sys.argv[2])"
    )
    done = subprocess.run(
        [sys.executable, "-c", command, path, tmp_path / "archive"],
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20)),
    )
    assert "make room, or put the results on another disk" in done.stderr
    assert list((tmp_path / "archive").iterdir()) == []


def test_what_a_killed_unpacking_left_is_removed(tmp_path):
    left = tmp_path / ".published.npy.abc.part"
    left.write_bytes(b"half")
    read_published(published(tmp_path / "sdss.npz", deflated=True), tmp_path)
    assert not left.exists()


@pytest.mark.parametrize("deflated", [False, True])
def test_a_file_that_changed_after_it_was_checked_is_refused(tmp_path, deflated):
    path = published(tmp_path / "sdss.npz", deflated=deflated)
    _, place = read_published(path, tmp_path)
    before = npz.identity(path)
    if deflated:
        os.truncate(tmp_path / "published.npy", 1000)
    else:
        cubes = CUBES.copy()
        cubes[9, 0, 0, 0] += 1
        published(path, cubes)
        assert path.stat().st_size == place["bytes"]
        assert npz.identity(path) != before
    with pytest.raises(UserError, match="has changed since it was checked: rerun the rule read_published"):
        read_cubes(place, [1])


def test_a_chunk_of_the_store_is_the_published_cubes_with_a_depth_of_one(tmp_path):
    table, place = read_published(published(tmp_path / "sdss.npz"), tmp_path)
    taken = np.array([90, 4, 41, 17, 66])
    galaxies = pd.DataFrame({"object_id": taken + 1000, "spec_id": spec_id(taken).astype(np.uint64), "row": range(5)})
    store = tmp_path / "cubes.zarr"
    create_store(store, galaxies.assign(ra=0.0, dec=0.0), 2)
    tables = [copy_chunk(galaxies[part], table, place, store, k) for k, part in enumerate((slice(3), slice(3, 5)))]
    assert load_cubes(store, range(5)).tobytes() == CUBES[taken].tobytes()
    quality = pd.concat(tables)
    assert quality["object_id"].tolist() == galaxies["object_id"].tolist()
    assert (quality[[f"frames_{band}" for band in "ugriz"]] == 1).all(axis=None)
    assert (quality[[f"coverage_{band}" for band in "ugriz"]] == 1).all(axis=None)
    with pytest.raises(UserError, match="rerun the stage sample"):
        copy_chunk(galaxies[:2], table, place, store, 0)
    with pytest.raises(UserError, match=f"spectrum {spec_id(4)} has no good published cube"):
        copy_chunk(galaxies[:3], table.assign(state=table["state"].where(table["row"] != 4, "bad")), place, store, 0)


MEASURED = """
import re, sys
import numpy as np, pandas as pd
from sdss_photoz.cubes.published import copy_chunk, read_published
from sdss_photoz.cubes.layout import create_store

def peak():  # kB; the ru_maxrss of a child begins with that of its parent
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1])

start = peak()
table, place = read_published(sys.argv[1], sys.argv[2])
assert (table["state"] == "ok").all()
print(len(table), peak(), peak() - start)
store = sys.argv[2] + "/cubes.zarr"
galaxies = table[::3][:2048].assign(object_id=1, row=np.arange(2048), ra=0.0, dec=0.0)
create_store(store, galaxies, 1)
copy_chunk(galaxies, table, place, store, 0)
print(peak())
"""


@pytest.mark.parametrize("deflated", [False, True])
def test_a_file_of_any_size_is_read_in_little_memory(tmp_path, deflated):
    """8,000 cubes, 655 MB: reading them takes an eighth of that at most, whatever their number."""
    path, blocks = tmp_path / "sdss.npz", 80
    n = 100 * blocks
    kind = zipfile.ZIP_DEFLATED if deflated else zipfile.ZIP_STORED
    base = np.zeros((100, 64, 64, 5), "f4")
    base[:, 30:34, 30:34] = (10 ** (0.4 * (22.5 - magnitudes(100))))[:, None, None, None]
    with zipfile.ZipFile(path, "w", kind, compresslevel=1) as archive:
        with archive.open("cube.npy", "w", force_zip64=True) as member:
            np.lib.format.write_array_header_1_0(
                member, {"descr": "<f4", "fortran_order": False, "shape": (n, *base.shape[1:])}
            )
            for _ in range(blocks):
                member.write(base)
        with archive.open("labels.npy", "w") as member:
            np.lib.format.write_array(member, labels_of(n, dered_petro_r=np.tile(magnitudes(100), blocks)))
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, path, tmp_path / "archive"], capture_output=True, text=True, check=True
    )
    cubes, peak, added, copying = map(int, done.stdout.split())
    print(f"{n * base[0].nbytes / 1e6:.0f} MB of cubes: {peak / 1e3:.0f} MB of memory, {added / 1e3:.0f} MB to read")
    print(f"a chunk of 2,048 galaxies: {copying / 1e3:.0f} MB")
    assert cubes == n
    assert 10_000 < added < 80_000
    assert peak < 500_000
    assert copying < 1_000_000
