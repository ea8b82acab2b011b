"""A header that contradicts the frame's great-circle terms is found, reported and not used."""

import bz2
import gzip
import io
import re
import shutil

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits

from sdss_photoz.app.cli import main
from sdss_photoz.cubes import file_tail, frame_astrometry
from sdss_photoz.cubes.cutouts import cutouts
from sdss_photoz.cubes.frame import DamagedFrame, OpenFrame, read_wcs
from sdss_photoz.cubes.frame_astrometry import GreatCircle, distance, list_names, locate, read_terms, terms_of_fields
from sdss_photoz.cubes.layout import create_store
from sdss_photoz.cubes.make import make_chunk
from sdss_photoz.cubes.resample import Projection
from sdss_photoz.cubes.store import open_store
from sdss_photoz.errors import UserError
from sdss_photoz.frames.footprint import overlapping_frames
from sdss_photoz.frames.mirror import manifest
from sdss_photoz.surveys import SDSS
from sdss_photoz.surveys.great_circle import TERMS
from sdss_photoz.surveys.sdss import Frame
from sdss_photoz.surveys.sphere import unit_vectors

GALAXY = (38.35938656, -0.08644481)
FRAME = Frame(2820, 3, 122, "r")
SHIFT = 120.0  # pixels: the survey's own wrong headers are 95 to 176 off


def unpacked(path) -> bytes:
    return bz2.decompress(path.read_bytes())


def altered(content: bytes, header=(), terms=()) -> bytes:
    """A frame with other values in its header, or in its table of terms, which `None` removes."""
    with fits.open(io.BytesIO(content)) as hdus:
        for key, value in dict(header).items():
            hdus[0].header[key] = value
        if terms is None:
            del hdus[3]
        else:
            for key, value in dict(terms).items():
                hdus[3].data[key] = value
        out = io.BytesIO()
        hdus.writeto(out, output_verify="silentfix")
    return out.getvalue()


@pytest.fixture(scope="module")
def plain(real_frame):
    """The r frame of a real field, unpacked."""
    return unpacked(real_frame(*FRAME))


@pytest.fixture(scope="module")
def shifted(plain):
    """The same with a header that is 120 pixels off; its terms stay right."""
    return altered(plain, {"CRPIX2": fits.getval(io.BytesIO(plain), "CRPIX2") + SHIFT})


@pytest.fixture(scope="module")
def real_paths(shared_data):
    paths = sorted(shared_data.glob("sas/**/frame-*.fits.bz2"))
    return {Frame.from_path(path): path for path in paths}


@pytest.fixture(scope="module")
def real_terms(real_paths):
    return {frame: read_terms(path, frame) for frame, path in real_paths.items()}


def put(folder, content: bytes, frame=FRAME):
    """A frame in the archive's layout, by its plain name: quicker than to compress it."""
    path = folder / frame.name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def as_fields(terms, **change):
    """The table of fields as the archive has it: r in double precision, each band in single."""
    row = dict(zip(("run", "camcol", "field"), FRAME[:3], strict=True)) | {"node": terms.node, "incl": terms.incl}
    row |= dict(zip(TERMS, terms.terms, strict=True))
    row |= {f"{name}_{b}": float(np.float32(row[name])) for name in TERMS for b in SDSS.band_names}
    return pd.DataFrame([row | change])


def test_terms_are_those_of_the_last_table_of_a_real_frame(plain, real_terms):
    assert len(real_terms) == 19
    assert None not in real_terms.values()
    row, found = fits.getdata(io.BytesIO(plain), 3)[0], real_terms[FRAME]
    assert (found.node, found.incl, *found.terms) == tuple(row[key] for key in ("NODE", "INCL", *"ABCDEF"))
    assert found.rows == tuple(row[f"DROW{k}"] for k in range(4))
    assert found.columns == tuple(row[f"DCOL{k}"] for k in range(4))


def test_terms_of_a_real_frame_are_those_that_the_archive_has_of_its_field(shared_data, real_terms):
    table = fits.getdata(shared_data / "catalog" / "photoField-003900-6.fits")
    (row,) = table[table["FIELD"] == 269]
    own = real_terms[Frame(3900, 6, 269, "u")]
    rounded = [float(row[name][0]) for name in ("A", "B", "C", "D", "E", "FF")]
    assert own.terms == pytest.approx(rounded, rel=1e-7)


def test_headers_of_real_frames_lie_within_what_is_allowed_of_their_terms(real_paths, real_terms):
    off = {frame: distance(read_wcs(path), real_terms[frame]) for frame, path in real_paths.items()}
    print(f"\nheaders of {len(off)} real frames lie up to {max(off.values()):.2f} pixels from their terms")
    assert max(off.values()) < 0.45 * frame_astrometry.TOLERANCE
    assert min(off.values()) > 0.01


def test_tan_projection_fits_the_terms_better_than_the_headers_do(real_paths, real_terms):
    """The rest is distortion that no TAN has; of the great circle's own shape 0.03 pixels."""
    x, y = (grid.ravel() for grid in np.meshgrid(np.linspace(0, 2047, 40), np.linspace(0, 1488, 30)))

    def residual(wcs, terms):
        a, b, w = Projection(wcs).from_sky @ unit_vectors(*terms.sky(x, y)).T
        return np.hypot(a / w - x, b / w - y)

    worst, typical, bare = [], [], []
    for frame, terms in real_terms.items():
        ours = residual(terms.tan(), terms)
        assert ours.max() < residual(read_wcs(real_paths[frame]), terms).max()
        straight = GreatCircle(*terms[:3])
        worst.append(ours.max())
        typical.append(np.sqrt(np.mean(ours**2)))
        bare.append(residual(straight.tan(), straight).max())
    print(f"\nfit: at most {max(worst):.2f} pixels, RMS {max(typical):.2f}, without distortion {max(bare):.3f}")
    assert max(worst) < 0.3
    assert max(typical) < 0.1
    assert max(bare) < 0.035


@pytest.mark.parametrize("mu", [0.0, 0.05, 359.95, 180.0])
@pytest.mark.parametrize("node", [0.0, 95.0, 275.0, 359.99])
def test_fit_holds_on_both_sides_of_right_ascension_0(mu, node):
    step = 1.1e-4
    for incl in (0.0, 15.0, 90.0):
        terms = GreatCircle(node, incl, (mu - 700 * step, step, 2e-8, -0.2, 3e-9, step))
        assert distance(terms.tan(), terms) < 0.02


def test_terms_are_found_whatever_the_file_is_compressed_with(tmp_path, plain):
    end = plain[:2880] + plain[-300_000:]
    expected = read_terms(put(tmp_path, end), FRAME)
    assert expected is not None
    streams = bz2.compress(end[:200_000]) + bz2.compress(end[200_000:])
    for content in (gzip.compress(end, 1), bz2.compress(end, 1), streams):
        assert read_terms(put(tmp_path, content), FRAME) == expected


@pytest.mark.parametrize("level", [1, 9])
@pytest.mark.parametrize("length", [1, 1000, 100_000, 950_000, 1_850_000])
def test_tail_is_the_end_of_the_content(tmp_path, level, length):
    content = np.random.default_rng(length).integers(0, 256, length, np.uint8).tobytes()
    path = tmp_path / "content.bz2"
    path.write_bytes(bz2.compress(content, level))
    found = list(file_tail.file_tails(path))
    assert all(content.endswith(part) for part in found)
    assert len(found[-1]) >= min(length, 100_000)


def test_end_of_a_real_frame_is_a_small_part_of_it(real_paths, plain):
    found = list(file_tail.file_tails(real_paths[FRAME]))
    assert [plain.endswith(part) for part in found] == [True, True]
    assert len(found[0]) < 0.07 * len(plain)


def test_damaged_end_of_a_frame_is_one_sentence(tmp_path, real_paths):
    content = bytearray(real_paths[FRAME].read_bytes())
    content[-40_000] ^= 4
    path = put(tmp_path, bytes(content))
    with pytest.raises(DamagedFrame, match=r"is damaged: its end does not decompress") as error:
        read_terms(path, FRAME)
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="its end does not decompress"):
        cutouts(pd.DataFrame([GALAXY], columns=["ra", "dec"]), tmp_path, tmp_path / "cubes.zarr")


UNUSABLE = {
    "none": None, "of another field": {"FIELD": 123}, "of another band": {"FILTER": "g"}, "NaN": {"A": np.nan},
    "singular": {"B": 0.0, "C": 0.0},
}  # fmt: skip


@pytest.mark.parametrize("change", UNUSABLE.values(), ids=UNUSABLE)
def test_frame_without_usable_terms_lies_by_its_header_and_is_told(tmp_path, plain, change, capsys):
    path = put(tmp_path / "mirror", altered(plain, terms=change))
    assert read_terms(path, FRAME) is None
    depth = cutouts(pd.DataFrame([GALAXY], columns=["ra", "dec"]), path.parent, tmp_path / "cubes.zarr")
    assert depth[0, 2] == 1
    output = capsys.readouterr().err
    assert "1 of 1 frames lie by their headers unchecked, for they have no great-circle terms (HDU 3)" in output
    assert open_store(tmp_path / "cubes.zarr").attrs["unchecked"] == [FRAME.name]


def test_cutouts_takes_a_frame_with_a_wrong_header_by_its_terms_and_says_so(tmp_path, plain, shifted, capsys):
    """By its header the galaxy's place showed 1.62 nanomaggies of sky, without a word."""
    (tmp_path / "p.csv").write_text(f"ra,dec\n{GALAXY[0]},{GALAXY[1]}\n")
    flux, output = {}, {}
    for kind, content in (("good", plain), ("bad", shifted)):
        frames, out = put(tmp_path / kind, content).parent, tmp_path / f"{kind}.zarr"
        assert main(["cutouts", str(tmp_path / "p.csv"), "--frames", str(frames), "--out", str(out)]) == 0
        flux[kind], output[kind] = open_store(out)["flux"][0, :, :, 2], capsys.readouterr().err
    told = r"1 of 1 frames lie by their great-circle terms, for their headers are more than 1 pixel off: "
    assert re.search(rf"^{told}{FRAME.name} \(1[12]\d\.\d\)\.$", output["bad"], re.MULTILINE)
    assert "frames lie by" not in output["good"]
    assert open_store(tmp_path / "bad.zarr").attrs["by_terms"] == {FRAME.name: pytest.approx(SHIFT, abs=0.3)}
    assert open_store(tmp_path / "good.zarr").attrs["by_terms"] == {}
    centre = {kind: image[24:40, 24:40].sum() for kind, image in flux.items()}
    assert centre["good"] == pytest.approx(64.75, abs=0.01)
    assert centre["bad"] == pytest.approx(centre["good"], rel=2e-3)
    assert np.abs(flux["bad"] - flux["good"]).max() < 0.1 * flux["good"].max()  # they lie within 0.2 pixels


def test_frame_is_found_however_far_its_header_is_off(tmp_path, plain):
    """Frames near a position are looked for by their terms as well."""
    path = put(tmp_path / "mirror", altered(plain, {"CRVAL1": 218.33}))
    depth = cutouts(pd.DataFrame([GALAXY], columns=["ra", "dec"]), path.parent, tmp_path / "cubes.zarr")
    assert depth[0, 2] == 1
    assert open_store(tmp_path / "cubes.zarr").attrs["by_terms"][FRAME.name] > 180 * 3600 / SDSS.pixel_scale - 10_000


def chunk(folder, path, fields, ra=GALAXY[0], dec=GALAXY[1]):
    """A chunk of one galaxy, made as the workflow makes it."""
    (folder / "sas" / FRAME.path()).parent.mkdir(parents=True)
    shutil.copy(path, folder / "sas" / FRAME.path())
    galaxies = pd.DataFrame({"object_id": [7], "ra": [ra], "dec": [dec], "row": [0]})
    overlaps = overlapping_frames(galaxies["ra"], galaxies["dec"], fields).query("band == 'r'")
    places = {"sas": (folder / "sas").as_uri(), "mirror": folder / "mirror"}
    create_store(folder / "store", galaxies, 1)
    listed = manifest(overlaps, **places)
    table = make_chunk(galaxies, overlaps, listed, folder / "store", 0, fields=fields, **places)
    return open_store(folder / "store")["flux"][0, :, :, 2], table.iloc[0]


@pytest.fixture(scope="module")
def packed(tmp_path_factory, shifted):
    path = tmp_path_factory.mktemp("packed") / FRAME.name
    path.write_bytes(bz2.compress(shifted, 1))
    return path


@pytest.mark.parametrize("known", ["in the archive", "in the frame alone"])
def test_chunk_takes_a_frame_with_a_wrong_header_by_its_terms_and_its_table_says_so(
    tmp_path, real_paths, real_terms, packed, known, capsys
):
    fields = as_fields(real_terms[FRAME])
    if known == "in the frame alone":  # window_flist.fits has no terms, but bounds
        fields = fields.drop(columns=[f"{name}_{b}" for name in TERMS for b in SDSS.band_names]).assign(margin=45.0)
    good, sound = chunk(tmp_path / "good", real_paths[FRAME], fields)
    assert sound[["by_terms_r", "unchecked_r"]].tolist() == ["", ""]
    assert "frames lie by" not in capsys.readouterr().err
    bad, told = chunk(tmp_path / "bad", packed, fields)
    assert told[["used_r", "by_terms_r", "unchecked_r"]].tolist() == ["2820-3-122", "2820-3-122", ""]
    assert told["by_terms_g"] == ""
    assert f"headers are more than 1 pixel off: {FRAME.name} (1" in capsys.readouterr().err
    assert bad[24:40, 24:40].sum() == pytest.approx(good[24:40, 24:40].sum(), rel=2e-3)


def test_frames_that_the_archive_bears_out_are_not_read_to_their_end(tmp_path, real_paths, real_terms, monkeypatch):
    monkeypatch.setattr(frame_astrometry, "read_terms", None)
    _, told = chunk(tmp_path, real_paths[FRAME], as_fields(real_terms[FRAME]))
    assert told["frames_r"] == 1


def test_frame_without_terms_of_its_own_lies_by_the_archives(tmp_path, shifted, real_terms):
    with OpenFrame(put(tmp_path, altered(shifted, terms=None))) as opened:
        wcs, off = locate(opened, FRAME, GreatCircle(*real_terms[FRAME][:3]))
    assert off == pytest.approx(SHIFT, abs=0.3)
    assert distance(wcs, real_terms[FRAME]) < 0.4


@pytest.mark.parametrize("header", ["right", "wrong"])
def test_archive_at_odds_with_a_frames_own_terms_is_refused(tmp_path, plain, shifted, real_terms, header):
    """A list of frames that was made from such terms misses some at their edges."""
    elsewhere = as_fields(real_terms[FRAME], **{"a_r": real_terms[FRAME].terms[0]}, a=real_terms[FRAME].terms[0] + 1e-3)
    expected = terms_of_fields(elsewhere, [FRAME])[FRAME]
    with (
        OpenFrame(put(tmp_path, plain if header == "right" else shifted)) as opened,
        pytest.raises(UserError, match=r"lies 9\.\d pixels from where the archive's table of fields has it"),
    ):
        locate(opened, FRAME, expected)


def test_archive_within_an_arcsec_of_a_sound_frame_leaves_its_header(tmp_path, plain, real_terms):
    a, *others = real_terms[FRAME].terms
    with OpenFrame(put(tmp_path, plain)) as opened:
        assert locate(opened, FRAME, GreatCircle(*real_terms[FRAME][:2], (a + 2e-4, *others))) == (opened.wcs, 0.0)


def test_what_the_archive_knows_of_a_band_is_that_bands_own(real_terms):
    fields = as_fields(real_terms[FRAME], d_g=1.0, e_u=-9999.0)
    frames = [FRAME._replace(band=band) for band in "ugr"] + [Frame(1, 1, 11, "r")]
    found = terms_of_fields(fields, frames)
    assert list(found) == frames[1:3]  # u has no term, and the other field no row
    assert found[frames[1]].terms[3] == 1.0
    assert terms_of_fields(fields.assign(margin=45.0), frames) == {}
    assert terms_of_fields(fields[["run", "camcol", "field"]], frames) == terms_of_fields(None, frames) == {}


def test_many_names_are_cut_short():
    assert list_names([str(k) for k in range(12)]).endswith("8, 9 and 2 more")
    assert list_names(["a", "b"]) == "a, b"
