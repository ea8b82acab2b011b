"""A condition is an expression over the columns of a table, with missing values as in SQL, and never code."""

import duckdb
import numpy as np
import pandas as pd
import pytest

from sdss_photoz.condition import check_names, chosen, fulfilled
from sdss_photoz.errors import UserError

KEY = "sample.where"
TABLE = pd.DataFrame(
    {
        "object_id": np.int64(2**62) + np.arange(6),
        "spec_id": np.uint64(2**63) + np.arange(6, dtype=np.uint64),
        "run": [94, 125, 94, 756, 94, 1000],
        "z_spec": [0.0, 0.05, 0.1, np.nan, 0.3, -0.1],
        "ebv": [0.02, np.nan, 0.1, 0.1, 0.2, 0.0],
        "subclass": ["", "AGN", "STARFORMING", "AGN", None, "it's"],
    }
)


def found(text):
    return pd.array(fulfilled(text, TABLE, KEY)).tolist()


@pytest.mark.parametrize(
    ("text", "sql"),
    [
        ("z_spec > 0.05", None),
        ("0.04 < z_spec <= 0.1", "0.04 < z_spec AND z_spec <= 0.1"),
        ("z_spec > 0.05 and ebv < 0.15", None),
        ("z_spec > 0.05 or ebv < 0.15", None),
        ("(z_spec > 0.05) & ~(ebv >= 0.2) | (run == 756)", "z_spec > 0.05 AND NOT ebv >= 0.2 OR run = 756"),
        ("not (z_spec > 0.05)", None),
        ("not (z_spec < 0.05 and ebv < 0.05)", None),
        ("run in [94, 1000] and z_spec != 0.1", None),
        ("run not in (94, 1000)", None),
        ("abs(z_spec - 0.1) * 2 <= ebv + 0.1", None),
        ("sqrt(z_spec + 0.2) ** 2 > run / 1000 - -0.1", None),
        ("run % 2 == 0 and +run > 100", "run % 2 = 0 AND run > 100"),
        ("log10(run) >= 3", None),
        ("subclass == 'AGN' or subclass != 'AGN' and z_spec < 0.2", None),
        ("subclass in ['AGN', \"it's\"]", "subclass IN ('AGN', 'it''s')"),
        ("z_spec >\n  0.05  # a comment\n  and ebv < 0.15", "z_spec > 0.05 AND ebv < 0.15"),
    ],
)
def test_a_condition_is_true_false_or_unknown_where_sql_says_so(text, sql):
    sql = sql or text.replace("==", "=").replace("[", "(").replace("]", ")").replace("**", "^")
    with duckdb.connect() as connection:
        connection.register("galaxies", TABLE.reset_index())
        said = connection.execute(f"SELECT ({sql}) FROM galaxies ORDER BY index").fetchall()
    assert [None if one is pd.NA else one for one in found(text)] == [one for (one,) in said]


def test_what_is_not_finite_is_unknown():
    assert found("1 / z_spec > 0") == [pd.NA, True, True, pd.NA, True, False]
    assert found("log10(z_spec) < 0")[:2] == [pd.NA, True]
    assert found("sqrt(z_spec) < 9")[-1] is pd.NA
    assert found("z_spec ** 0.5 < 9")[-1] is pd.NA


def test_identifiers_are_compared_to_the_last_digit():
    assert sum(found(f"object_id == {2**62 + 1}")) == 1
    assert sum(found(f"object_id > {2**62 + 1}")) == 4
    assert sum(found(f"spec_id in [{2**63 + 2}, {2**63 + 3}, 7]")) == 2
    assert not any(found("object_id == spec_id"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "names no column"),
        ("1 < 2", "names no column"),
        ("abs(3) < 2", "names no column"),
        ("z_spec = 0.1", "is no expression"),
        ("z_spec > 0.1 AND ebv < 0.1", "is no expression"),
        ("z_spec > 0.1)", "is no expression"),
        ("z_spec\x00 > 1", "is no expression"),
        ("z_spc > 0.1", "names z_spc, but that is no column of the sample: did you mean z_spec"),
        ("mass > 0.1", "no column of the sample: there are object_id, spec_id, run, z_spec, ebv, subclass"),
        ("z_spec", "has 'z_spec' where something true or false must stand"),
        ("z_spec > 0.1 & ebv < 0.1", "write each comparison beside & and | in brackets"),
        ("z_spec and ebv < 0.1", "has 'z_spec' where something true"),
        ("z_spec is 1", "write == or !="),
        ("z_spec in run", "write a list"),
        ("z_spec in []", "write a list"),
        ("run in [ebv, 2]", "a list holds numbers or quoted text alone"),
        ("run in ['94']", "seeks text among numbers, or a number among text"),
        ("subclass > 3", "one is text and one a number"),
        ("subclass < 'AGN'", "compare them with ==, != or in"),
        ("subclass + 1 > 3", "computes with subclass, which is text"),
        ("object_id % 2 == 0", "computes with object_id, an identifier"),
        ("object_id == 4.6e18", "write all its digits"),
        ("z_spec < 1e999", "too large"),
        ("run < 99999999999999999999", "too large"),
        ("z_spec > True", "has 'True'"),
        ("z_spec.real > 1", "has 'z_spec.real'"),
        ("__import__('os').system('true') > z_spec", 'has "__import__'),
        ("abs(z_spec, 1) > 1", "has 'abs"),
        ("exp(z_spec) > 1", "has 'exp"),
        ("(lambda: z_spec)() > 1", "has '\\(lambda"),
        ("[z_spec][0] > 1", "has '\\[z_spec"),
        ("(z_spec := 3) > 1", "has '\\(z_spec :="),
        ("[x for x in z_spec] > 1", "has '\\[x for"),
        ("f'{z_spec}' == 'a'", "has \"f'"),
        ("not " * 5000 + "z_spec > 1", "is no expression|nested too deeply"),
        ("-" * 600 + "z_spec > 1", "is no expression|nested too deeply"),
    ],
)
def test_anything_else_is_refused_in_a_sentence(text, expected):
    with pytest.raises(UserError, match=rf"(?s)^{KEY} is .*, which .*{expected}"):
        fulfilled(text, TABLE, KEY)


def test_missing_values_are_said(caplog):
    caplog.set_level("INFO")
    assert chosen("z_spec + ebv < 0.3", TABLE, KEY).sum() == 3
    assert "sample.where: 2 of 6 galaxies lack a value for it, and are left out" in caplog.text


def test_a_condition_that_no_galaxy_fulfils_is_refused():
    with pytest.raises(UserError, match="none of 6 galaxies fulfils, and 1 lack a value for it: loosen it"):
        chosen("z_spec > 0.3", TABLE, KEY)
    assert len(chosen("z_spec > 0.3", TABLE[:0], KEY)) == 0


def test_names_alone_can_be_checked():
    check_names("abs(z_spec) > 0.3 and run == 94", ["z_spec", "run"], KEY)
    with pytest.raises(UserError, match="names run, but that is no column"):
        check_names("abs(z_spec) > 0.3 and run == 94", ["z_spec"], KEY)
