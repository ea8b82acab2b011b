"""The embedded archive answers T-SQL with SQL Server's meaning, or refuses it by name."""

import pytest

from sdss_photoz.embedded import tsql
from sdss_photoz.embedded.connection import connect
from sdss_photoz.errors import UserError


@pytest.fixture
def database():
    connection = connect()
    connection.execute(
        "CREATE TABLE PhotoObjAll(objID BIGINT, class VARCHAR, n INTEGER, m FLOAT, flags BIGINT, camcol UTINYINT)"
    )
    connection.execute(
        "INSERT INTO PhotoObjAll VALUES (1, 'GALAXY', 7, 1.5, 262144, 1), (2, 'Galaxy', -7, 2.7, 0, 2), "
        "(3, 'STAR', 3, 0.4, 16, 3), (4, 'QSO', NULL, -2.7, 0, 4)"
    )
    connection.execute("CREATE TABLE Photoz(objID BIGINT, z FLOAT)")
    return connection


def value(database, expression):
    return tsql.run(database, f"SELECT {expression} AS v").v[0]


def ids(database, where):
    return sorted(tsql.run(database, f"SELECT objID FROM PhotoObjAll WHERE {where}").objID)


@pytest.mark.parametrize(
    "where",
    [
        "class = 'galaxy'",
        "class = 'GALAXY  '",
        "class IN ('galaxy', 'x')",
        "class LIKE 'gal%'",
        "class BETWEEN 'galaxx' AND 'galaxz'",
        "NOT class <> 'gAlAxY'",
        "CASE class WHEN 'galaxy' THEN 1 ELSE 0 END = 1",
        "class = (SELECT 'galaxy')",
    ],
)
def test_strings_compare_without_case_and_trailing_blanks(database, where):
    assert ids(database, where) == [1, 2]


def test_strings_group_and_join_without_case(database):
    counts = tsql.run(database, "SELECT COUNT(*) AS c FROM PhotoObjAll GROUP BY class ORDER BY COUNT(*)").c
    assert list(counts) == [1, 1, 2]
    pairs = "SELECT p.objID FROM PhotoObjAll p JOIN PhotoObjAll q ON p.class = q.class AND p.objID < q.objID"
    assert list(tsql.run(database, pairs).objID) == [1]


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("7/2", 3),
        ("-7/2", -3),
        ("7/2.0", 3.5),
        ("7 % 4", 3),
        ("-7 % 4", -3),
        ("0x10", 16),
        ("0x40000 & 262144", 262144),
        ("CAST(2.7 AS int)", 2),
        ("CAST(-2.7 AS int)", -2),
        ("CONVERT(int, 2.7)", 2),
        ("POWER(2, 3)", 8),
        ("POWER(2, -1)", 0),
        ("POWER(2.0, -1)", 0.5),
        ("SQUARE(3)", 9),
        ("LOG(10)", 2.302585092994046),
        ("LOG10(100)", 2),
        ("LOG(8, 2)", 3),
        ("ISNULL(NULL, 5)", 5),
        ("IIF(1 < 2, 3, 4)", 3),
        ("6 ^ 3", 5),
        ("'a' + 'b'", "ab"),
        ("POWER(CAST(2.9 AS int), 0x3) + 7/2", 11),
        ("ISNULL(NULLIF('A', 'a'), 'b' + 'c')", "bc"),
        ("dbo.fPhotoFlags('SATURATED')", 0x40000),
        ("fPhotoFlags('binned1')", 0x10000000),
        ("dbo.fPhotoFlags('MAYBE_CR')", 0x100000000000000),
        ("dbo.fPhotoType('Galaxy')", 3),
        ("dbo.fPhotoTypeN(6)", "STAR"),
        ("dbo.fDistanceArcMinEq(359.5, 0, 0.5, 0)", 60),
    ],
)
def test_expressions_have_the_values_of_sql_server(database, expression, expected):
    assert value(database, expression) == (expected if isinstance(expected, str) else pytest.approx(expected))


def test_average_of_integers_is_an_integer(database):
    assert tsql.run(database, "SELECT AVG(objID) AS v FROM PhotoObjAll").v[0] == 2  # not 2.5
    assert tsql.run(database, "SELECT AVG(CAST(m AS int)) AS v FROM PhotoObjAll WHERE m > 1").v[0] == 1  # not 1.5
    assert tsql.run(database, "SELECT AVG(m) AS v FROM PhotoObjAll WHERE objID < 3").v[0] == pytest.approx(2.1)


def test_float_is_double_precision(database):
    assert float(value(database, "CAST(0.1 AS float)")) == 0.1
    assert float(value(database, "CAST(0.1 AS real)")) != 0.1
    assert float(value(database, "CAST(0.1 AS float(24))")) != 0.1


def test_real_columns_compare_with_decimal_literals_as_real(database):
    assert ids(database, "m <= 0.4 AND m > 0") == [3]


def test_object_ids_beside_null_are_not_rounded(database):
    database.execute("INSERT INTO PhotoObjAll VALUES (1237662226208260257, 'X', 7, 1, 16, 1)")
    query = (
        "SELECT p.objID, q.objID AS other FROM PhotoObjAll p LEFT JOIN PhotoObjAll q ON q.objID = p.objID AND q.n = 7"
    )
    other = tsql.run(database, query).set_index("objID").other
    assert other[1237662226208260257] == 1237662226208260257
    assert other.isna().sum() == 3


def test_nulls_sort_first(database):
    assert tsql.run(database, "SELECT objID FROM PhotoObjAll ORDER BY n").objID.iloc[0] == 4
    assert tsql.run(database, "SELECT objID FROM PhotoObjAll ORDER BY n DESC").objID.iloc[-1] == 4


def test_columns_are_named_as_in_the_query(database):
    query = "SELECT p.objid, CLASS, m + 1, COUNT(*) OVER (), n AS N2 FROM PhotoObjAll p"
    assert list(tsql.run(database, query)) == ["objid", "CLASS", "Column1", "Column2", "N2"]
    rows, into = tsql.rows_into(database, "SELECT p.objid, camcol INTO mydb.X FROM PhotoObjAll p")
    assert (rows.column_names, into) == (["objid", "camcol"], "X")
    assert [str(kind) for kind in rows.schema.types] == ["int64", "uint8"]


def test_pages_and_numbers_of_rows(database):
    numbered = "SELECT s.objID FROM (SELECT objID, ROW_NUMBER() OVER (ORDER BY m DESC) AS i FROM PhotoObjAll) s"
    assert list(tsql.run(database, f"{numbered} WHERE s.i BETWEEN 2 AND 3 ORDER BY s.i").objID) == [1, 3]
    page = "SELECT objID FROM PhotoObjAll ORDER BY objID OFFSET 1 ROWS FETCH NEXT 2 ROWS ONLY"
    assert list(tsql.run(database, page).objID) == [2, 3]


@pytest.mark.parametrize(
    "query",
    [
        "SELECT TOP 1 [p].[objID] INTO mydb.X FROM dbo.PhotoObjAll AS [p] WITH (NOLOCK) WHERE p.flags & 0x10 > 0",
        "SELECT p.objID FROM DR12..PhotoObjAll p WHERE p.flags & dbo.fPhotoFlags('CHILD') != 0",
        "SELECT objID FROM BestDR12.dbo.PhotoObjAll WHERE flags = 16 -- a comment",
        "WITH q AS (SELECT objID, flags AS f FROM PhotoObjAll) SELECT objID INTO mydb.Y FROM q WHERE f = 0x10",
        "SELECT s.objID FROM (SELECT objID, flags & 16 AS child FROM photoobjall) s WHERE s.child > 0",
    ],
)
def test_what_casjobs_is_sent_is_answered_unchanged(database, query):
    table = tsql.run(database, query)
    assert list(table.columns) == ["objID"]
    assert list(table.objID) == [3]


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("SELECT STR(m, 8, 2) FROM PhotoObjAll", "STR"),
        ("DECLARE @x int; SELECT @x", "DECLARE"),
        ("SELECT @x", "@x"),
        ("SELECT 1 AS a FROM PhotoObjAll p CROSS APPLY dbo.fGetNearestObjEq(1, 2, 3) n", "CROSS APPLY"),
        ("SELECT 1 AS a FROM PhotoObjAll p OUTER APPLY dbo.f(p.n) q", "OUTER APPLY"),
        ("SELECT n.objID FROM dbo.fGetNearbyObjEq(1, 2, 3) n", "fGetNearbyObjEq"),
        ("SELECT a FROM #mine", "#mine"),
        ("SELECT TOP 10 PERCENT objID FROM PhotoObjAll", "PERCENT"),
        ("SELECT objID FROM PhotoObjAll WHERE class LIKE '[GS]%'", "LIKE"),
        ("SELECT ROUND(m, 1, 1) AS r FROM PhotoObjAll", "ROUND"),
        ("SELECT CHARINDEX('A', class) AS i FROM PhotoObjAll", "CHARINDEX"),
        ("SELECT GETDATE() AS d", "GETDATE"),
        ("SELECT STDEVP(m) AS s FROM PhotoObjAll", "STDEVP"),
        ("SELECT dbo.fSpecZWarning('OK') AS f", "fSpecZWarning"),
        ("DROP TABLE PhotoObjAll", "DROP"),
        ("EXEC spAnything", "EXEC"),
        ("SELECT 1 AS a; SELECT 2 AS b", "2 statements"),
        ("SELECT x FROM PhotoObjAll PIVOT (SUM(n) FOR class IN ([a])) p", "PIVOT"),
        ("SELECT objID FROM Galaxie", "Galaxie"),
        ("SELECT petroMag_x FROM PhotoObjAll", "petroMag_x"),
        ("SELECT p.petroMag_x FROM PhotoObjAll p", "petroMag_x"),
        ("SELECT m - 1 AS dered FROM PhotoObjAll WHERE dered <= 17.8", "dered"),
        ("SELECT m - 1 AS z FROM PhotoObjAll WHERE z < 1", "z is an alias"),
        ("SELECT m - 1 AS dered, dered + 1 AS more FROM PhotoObjAll", "dered"),
        ("SELECT class, Class INTO mydb.X FROM PhotoObjAll", "'class'"),
        ("SELECT m - 1 INTO mydb.X FROM PhotoObjAll", "column 1"),
        ("SELECT dbo.fPhotoFlags('SATURATE') AS f", "SATURATE"),
        ("SELECT n / (objID - objID) AS q FROM PhotoObjAll", "Division by zero"),
        ("SELECT dbo.fPhotoFlags() AS f", "fPhotoFlags"),
        ("SELECT FROM WHERE", "T-SQL"),
    ],
)
def test_what_would_mean_something_else_is_refused_by_name(database, query, named):
    with pytest.raises(UserError) as refusal:
        tsql.run(database, query)
    assert named in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_file_that_is_no_catalogue_is_named(tmp_path):
    broken = tmp_path / "catalog.duckdb"
    broken.write_text("not a database")
    with pytest.raises(UserError, match=r"catalog\.duckdb"):
        tsql.run(broken, "SELECT 1 AS a")
