"""Tables are read to the last digit, and what marks a missing value is no value."""

import ast
import bz2
import gzip
import lzma

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.table import MaskedColumn, Table

from sdss_photoz import tables
from sdss_photoz.errors import UserError

ID = 1237646587172782081  # above 2**53: a double ends in …080
BIG = 14126741881526460416  # specObjID of an eBOSS plate, above 2**63


def written(tmp_path, content, name="table.csv"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def values_of(table):
    return {name: table[name].astype(object).where(table[name].notna(), None).tolist() for name in table}


def test_delimited_text_comes_out_as_it_was_written(tmp_path):
    text = 'plate,fiber,subclass,flag,size,name\n0266,001,NA,True,1_000,"a, b"\n0267,,inf,nan,1e5," c"\n'
    assert values_of(tables.read(written(tmp_path, text))) == {
        "plate": ["0266", "0267"],
        "fiber": ["001", None],
        "subclass": ["NA", "inf"],
        "flag": ["True", "nan"],
        "size": ["1_000", "1e5"],
        "name": ["a, b", " c"],
    }


FORMS = {
    "comma": "ra,dec,z\n1,2,0.1\n3,4,0.2\n",
    "spaces after commas": "ra, dec, z\n1, 2, 0.1\n3, 4, 0.2\n",
    "semicolon": "ra;dec;z\n1;2;0.1\n3;4;0.2\n",
    "tab": "ra\tdec\tz\r\n1\t2\t0.1\r\n3\t4\t0.2\r\n",
    "bar": "ra|dec|z\n1|2|0.1\n3|4|0.2",
    "aligned": "  ra dec  z\n   1   2  0.1\n   3   4  0.2\n",
    "the archive's": "\ufeff#Table1\nra,dec,z\n1,2,0.1\n3,4,0.2\n",
    "LePhare": "# A CATALOGUE OF\n# CAT_MAG : AB\n# ra  dec  z\n 1  2  0.1\n 3  4  0.2\n",
    "EAZY": "# ra dec z\n# EAZY version 1.00 of 2015\n  1 2 0.1\n\n  3 4 0.2\n",
    "commented commas": "#ra,dec,z\n1,2,0.1\n3,4,0.2\n",
}


@pytest.mark.parametrize("text", FORMS.values(), ids=FORMS)
def test_the_delimiter_and_the_names_are_found(text, tmp_path):
    table = tables.read(written(tmp_path, text))
    assert list(table) == ["ra", "dec", "z"]
    assert tables.numbers(table, "z", tables.REDSHIFT).tolist() == [0.1, 0.2]
    assert tables.numbers(table, "ra", tables.RA).tolist() == [1, 3]


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_packed_text_is_read_by_its_content(pack, tmp_path):
    assert values_of(tables.read(written(tmp_path, pack(b"a,b\n1,02\n")))) == {"a": ["1"], "b": ["02"]}


REFUSED = {
    "a comma more": ("a,b\n1,2\n\n3,4,\n", "row 2 has 3 values, the header 2 names: '3,4,'"),
    "a comma less": ("a,b\n1\n", "row 1 has 1 values, the header 2 names"),
    "a name twice": ("z,b,z\n1,2,3\n", "the name 'z' stands twice in its header"),
    "no names": ("1,2\n3,4\n", "its first line holds numbers, '1,2', and no line of comments above has a name"),
    "names of other columns": ("# a b c\n1 2\n", "no line of comments above has a name for each of its 2 columns"),
    "an open quotation": ('a,b\n1,"2\n', "a quotation mark is not closed"),
    "nothing": ("", "its first line is empty"),
    "Latin-1": ("a,b\n1,é\n".encode("latin-1"), "it is not text in UTF-8"),
    "Latin-1 in the names": ("é,b\n1,2\n".encode("latin-1"), "it is not text in UTF-8"),
    "UTF-16": ("a,b\n1,2\n".encode("utf-16"), "it is not text in UTF-8"),
    "HDF5": (b"\x89HDF\r\n", "is HDF5: write its table as parquet first"),
    "a spreadsheet": (b"PK\x03\x04", "is a spreadsheet or zip archive: unpack it, or export it as CSV"),
    "half of a packed file": (gzip.compress(b"a,b\n1,2\n")[:-9], "cannot be read as a CSV table"),
}


@pytest.mark.parametrize(("content", "sentence"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_table_is_one_sentence(content, sentence, tmp_path):
    path = written(tmp_path, content)
    with pytest.raises(UserError) as refusal:
        tables.read(path)
    assert str(refusal.value).startswith(f"{path} ")
    assert sentence in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(("form", "name"), [("fits", "t.fits"), ("votable", "t.vot"), ("ascii.ecsv", "t.ecsv")])
def test_formats_of_astronomy_keep_their_types(form, name, tmp_path):
    ids = MaskedColumn(np.array([ID, ID + 1]), mask=[False, True])
    table = Table({"objID": ids, "z": [0.1, np.nan], "name": ["a", "bc"]})
    if form == "fits":
        table["mag"] = [[1.0, 2.0], [3.0, 4.0]]
    table.write(tmp_path / name, format=form)
    (tmp_path / name).rename(tmp_path / "renamed")  # the content tells
    found = tables.read(tmp_path / "renamed")
    assert found["objID"].isna().tolist() == [False, True]
    assert int(found["objID"][0]) == ID
    assert found["name"].tolist() == ["a", "bc"]
    assert tables.measured(found, "z", tables.REDSHIFT).missing == {"no value": 1}
    if form == "fits":
        assert [list(row) for row in found["mag"]] == [[1, 2], [3, 4]]


def test_of_several_tables_in_one_file_none_is_chosen(tmp_path):
    from astropy.io import fits

    columns = [fits.Column("z", "D", array=[0.1])]
    fits.HDUList([fits.PrimaryHDU(), *(fits.BinTableHDU.from_columns(columns) for _ in "ab")]).writeto(
        tmp_path / "t.fits"
    )
    with pytest.raises(UserError, match="holds several tables: write the one that is meant to a file of its own"):
        tables.read(tmp_path / "t.fits")


@pytest.mark.parametrize("name", ["t.parquet", "t.parq", "t.pq", "t"])
def test_parquet_keeps_identifiers_whatever_its_name(name, tmp_path):
    """Gaps beside 64-bit integers become doubles in pandas, unless it is asked for nullable ones."""
    columns = {"a": pa.array([ID, None]), "b": pa.array([BIG, None], pa.uint64()), "c": pa.array([BIG, 1], pa.uint64())}
    pq.write_table(pa.table(columns), tmp_path / name)
    found = tables.read(tmp_path / name)
    assert [str(kind) for kind in found.dtypes] == ["Int64", "UInt64", "uint64"]
    assert (int(found["a"][0]), int(found["b"][0]), int(found["c"][0])) == (ID, BIG, BIG)


def test_an_index_that_pandas_kept_is_a_column(tmp_path):
    pd.DataFrame({"object_id": [ID], "ra": [1.0]}).set_index("object_id").to_parquet(tmp_path / "t.parquet")
    assert tables.read(tmp_path / "t.parquet")["object_id"].tolist() == [ID]


FILLED = {  # quantity: given, and what remains of it
    "redshift": (
        tables.REDSHIFT,
        "0.1 -9999 -99.9 -99 -9 -1 0 -0.01 99 9.1 inf nan 9999.0 -9.99e2",
        [0.1, 0, -0.01, 9.1],
    ),
    "declination": (tables.DEC, "-9 -1 9 -90 90 -9999 -99 -99.9 99 --", [-9, -1, 9, -90, 90]),
    "right ascension": (tables.RA, "-99 -9 -1 99 -9999 -999 NULL", [-99, -9, -1, 99]),
    "magnitude": (tables.MAGNITUDE, "-9 -1 17.5 99 -9999 -99 99.99 inf", [-9, -1, 17.5]),
    "reddening": (tables.EBV, "0 0.02 -1 -9 -999 99", [0, 0.02]),
}


@pytest.mark.parametrize(("quantity", "words", "remaining"), FILLED.values(), ids=FILLED)
def test_a_fill_value_is_one_that_the_quantity_cannot_have(quantity, words, remaining):
    words = words.split()
    for table in (pd.DataFrame({"x": words}), pd.DataFrame({"x": pd.to_numeric(pd.Series(words), errors="coerce")})):
        found = tables.measured(table, "x", quantity)
        assert found.values[np.isfinite(found.values)].tolist() == remaining
        assert sum(found.missing.values()) == np.isnan(found.values).sum() == len(words) - len(remaining)


def test_fill_values_are_counted_by_what_stands_there_also_in_single_precision():
    table = pd.DataFrame({"z": np.float32([0.1, -99.9, -99.9, np.nan, np.inf])})
    found = tables.measured(table, "z", tables.REDSHIFT)
    assert found.missing == {"no value": 1, "-99.9": 2, "inf": 1}
    assert tables.describe_missing("z", found.missing) == "z has no value in 1 and is -99.9 in 2 and is inf in 1"


@pytest.mark.parametrize(
    ("values", "quantity", "sentence"),
    [
        (["0.1", "-5"], tables.REDSHIFT, "column 'x' of t.csv is -5 in row 2, but redshifts lie in -0.99 to 30"),
        ([0.1, 31.0], tables.REDSHIFT, "is 31 in row 2"),
        ([91.0], tables.DEC, "is 91 in row 1, but declinations lie in -90 to 90 degrees"),
        (["12:30:00"], tables.RA, "holds text, '12:30:00' in row 1, but right ascensions are numbers (degrees)"),
        (["0x10"], tables.REDSHIFT, "holds text, '0x10'"),
        (["1_0"], tables.REDSHIFT, "holds text, '1_0'"),
        (["38,35"], tables.RA, "holds text, '38,35'"),
        ([True], tables.REDSHIFT, "holds text, 'True'"),
    ],
)
def test_other_values_that_it_cannot_have_are_refused_by_row(values, quantity, sentence):
    with pytest.raises(UserError) as refusal:
        tables.measured(pd.DataFrame({"x": values}), "x", quantity, "t.csv")
    assert sentence in str(refusal.value)


def test_numbers_are_the_nearest_doubles():
    words = ["0.1", "+48.3", " -0.15572588 ", "1.", ".5", "1e5", "2.5E-3", "-0.04398176680021482"]
    assert tables.numbers(pd.DataFrame({"x": words}), "x", tables.DEC).tolist() == [float(word) for word in words]


KEPT = {
    "whole": ([str(ID), str(ID + 1)], "int64", [ID, ID + 1]),
    "above 2**63": ([str(BIG), "7"], "uint64", [BIG, 7]),
    "below 0": (["-4320002192183091200"], "int64", [-4320002192183091200]),
    "a gap beside": ([str(ID), ""], "str", [str(ID), None]),
    "zeros in front": (["0266", "12"], "str", ["0266", "12"]),
    "longer than 64 bits": (["99999999999999999999"], "str", ["99999999999999999999"]),
    "words": (["SDSS J1234", "2E10"], "str", ["SDSS J1234", "2E10"]),
    "small doubles": ([1.0, 2.0], "int64", [1, 2]),
    "small doubles and a gap": ([1.0, np.nan], "Int64", [1, None]),
    "objects": (pd.Series([ID, "a", None], dtype=object), "str", [str(ID), "a", None]),
}


@pytest.mark.parametrize(("given", "kind", "kept"), KEPT.values(), ids=KEPT)
def test_identifiers_are_kept_to_the_last_digit(given, kind, kept):
    found = tables.identifiers(pd.DataFrame({"objID": given}), "objID")
    assert str(found.dtype) == kind
    assert [None if missing else value for value, missing in zip(found, found.isna(), strict=True)] == kept


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ([str(ID), "1.23766E+18"], "column 'objID' of t.csv is 1.23766E\\+18, rounded as a spreadsheet does, in row 2"),
        (["1E+18"], "is 1E\\+18, rounded"),
        ([7.0, float(ID)], "is 1.2376465871727821e\\+18, a floating point number, in row 2"),
        ([0.5], "is 0.5, a floating point number"),
    ],
)
def test_identifiers_that_were_rounded_before_are_refused_by_row(given, sentence):
    with pytest.raises(UserError, match=sentence):
        tables.identifiers(pd.DataFrame({"objID": given}), "objID", "t.csv")


def test_the_column_of_identifiers_is_found_by_any_of_its_names():
    for name in ("object_id", "objID", "objid", "specObjID", "OBJID", "id"):
        assert tables.identifier_of(pd.DataFrame(columns=["ra", name])) == name
    assert tables.identifier_of(pd.DataFrame(columns=["specObjID", "objID"])) == "objID"
    assert tables.identifier_of(pd.DataFrame(columns=["ra", "name"])) is None


def test_no_json_is_written_that_may_hold_nan(root):
    """NaN and Infinity are no JSON: what writes it must refuse them."""
    private = {"files.py": 1, "checkpoint.py": 2}  # hashed; and a state that Python alone reads back, NaN or not
    for path in (
        *(root / "src").rglob("*.py"),
        *(root / "benchmarks").rglob("*.py"),
        *(root / "workflow").rglob("*.py"),
    ):
        calls = (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call))
        writers = [call for call in calls if ast.unparse(call.func) in ("json.dumps", "json.dump")]
        loose = [call for call in writers if "allow_nan=False" not in ast.unparse(call)]
        assert len(loose) == private.get(path.name, 0), path
