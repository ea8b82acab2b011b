"""A query of the galaxies that the user wrote, `archive.query`, brought to the form of the package's own."""

import hashlib
import re
from pathlib import Path

import sqlglot
from sqlglot import exp
from sqlglot.tokens import TokenType

from sdss_photoz import condition
from sdss_photoz.archive.query import KEYS, Query, limited
from sdss_photoz.errors import UserError
from sdss_photoz.surveys.catalogue import NEEDED, RENAMED, names_of_others

TABLE = "mydb.sdss_photoz_galaxies"
_PARTS = {"kind", "expressions", "from", "from_", "joins", "where", "into"}  # of a SELECT that can be cut into parts
_NAMES = {"limit": "TOP", "group": "GROUP BY", "order": "ORDER BY", "with": "WITH", "with_": "WITH"}


def check_own_query(config) -> str:
    """Check the query of a configuration, and that conditions on its columns name some that it selects.

    Parameters
    ----------
    config : config.Config
        With `archive.query` set.

    Returns
    -------
    str
        SHA-256 of the file.

    Raises
    ------
    UserError
        As of `own_query`, or if `sample.where` or a trial's names a column that the sample will not have.
    """
    digest = hashlib.sha256(_read(config.archive.query)).hexdigest()
    columns = own_query(config.archive.query, config.region, digest).columns
    names = [RENAMED[column.lower()] for column in columns if column.lower() in RENAMED]
    names += [name for name in ("run", "camcol", "field") if name not in names]  # follow from objID
    names += names_of_others(columns).values()
    for key, text in config.conditions.items():
        condition.check_names(text, names, key)
    return digest


def own_query(path: str | Path, region=None, planned: str | None = None) -> Query:
    """Read a query of the user's.

    It is sent as it is written, but for the INTO clause, which names our table, and brackets around its conditions, to
    which those of the region, and of the parts that the SkyServer is asked for, are added.

    Parameters
    ----------
    path : str or Path
        A file with one SELECT in T-SQL.
    region : config.Region, optional
        A box on the sky to which the galaxies are limited.
    planned : str, optional
        SHA-256 that the file must have.

    Raises
    ------
    UserError
        If the file cannot be read or has changed; or is not one SELECT with named columns, FROM and perhaps WHERE, to
        which conditions can be added; or lacks columns that the analysis needs.
    """
    content = _read(path)
    if planned is not None and hashlib.sha256(content).hexdigest() != planned:
        raise UserError(
            f"archive.query {path} is not the file that this run was planned with: it was edited since Snakemake "
            "started; start Snakemake again."
        )
    try:
        sql = content.decode("utf-8-sig").replace("\r\n", "\n")
        trees = [tree for tree in sqlglot.parse(sql, read="tsql") if tree is not None]
        tokens = sqlglot.tokenize(sql, read="tsql")
    except (UnicodeDecodeError, sqlglot.errors.SqlglotError) as error:
        reason = re.sub(r"\x1b\[\d*m", "", str(error)).splitlines()[0]
        raise UserError(f"archive.query {path} is not T-SQL: {reason}") from None
    if len(trees) != 1 or not isinstance(trees[0], exp.Select):
        raise UserError(f"archive.query {path} must hold one SELECT, but holds {_kinds(trees)}.")
    _check_form(trees[0], path)
    query = Query("galaxies", _edited(sql, tokens), KEYS["galaxies"][0], "")
    _check_columns(query, trees[0], path)
    by_name = {name.lower(): name for name in query.columns}
    place = {
        name.lower(): re.sub(r"(?i) AS \S+$", "", item) for name, item in zip(query.columns, query.items, strict=True)
    }
    query = query._replace(key=by_name[query.key.lower()], longitude=place["ra"])
    return limited(query, region, place["dec"])


def _read(path):
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise UserError(
            f"archive.query {path} cannot be read ({error.strerror}): give the path of a file with an SQL query."
        ) from None


def _kinds(trees):
    return ", ".join(tree.key.upper() for tree in trees) or "nothing"


def _check_form(tree, path):
    """Refuse clauses beside which no condition can be added to WHERE without changing what the query means."""
    clauses = [key for key, value in tree.args.items() if value and key not in _PARTS]
    if clauses:
        name = _NAMES.get(clauses[0], clauses[0].strip("_").upper())
        raise UserError(
            f"archive.query {path} has {name} in its outer SELECT, but that may have columns, FROM, JOIN and WHERE "
            f"alone, for the query is asked in parts: put {name} into a subquery, or limit the run with archive.region "
            "or sample.where."
        )
    if not any(tree.args.get(key) for key in ("from", "from_")):
        raise UserError(f"archive.query {path} has no FROM: select from the survey's tables.")
    if any(item.is_star for item in tree.expressions):
        raise UserError(f"archive.query {path} selects *: name the columns.")


def _check_columns(query, tree, path):
    """Refuse unnamed and repeated columns, and the lack of those that the analysis needs."""
    if len(query.items) != len(tree.expressions):
        raise UserError(f"archive.query {path} has quoted brackets or commas among its columns: leave them out.")
    for item, text, name in zip(tree.expressions, query.items, query.columns, strict=True):
        is_named = re.search(rf"(?i) AS {re.escape(name)}$", text) if isinstance(item, exp.Alias) else True
        if not is_named or item.alias_or_name != name or not re.fullmatch(r"\w+", name):
            raise UserError(
                f"archive.query {path} selects {text[:60]!r}: give it a name of letters, digits and underscores, as in "
                "EXPRESSION AS NAME."
            )
    names = [name.lower() for name in query.columns]
    if twice := [name for name in query.columns if names.count(name.lower()) > 1]:
        raise UserError(f"archive.query {path} selects two columns {twice[0]}: give one another name with AS.")
    if missing := [name for name in NEEDED if name.lower() not in names]:
        raise UserError(
            f"archive.query {path} does not select {', '.join(missing)}, which the analysis needs: add "
            f"{'it' if len(missing) == 1 else 'them'}, with AS where the table's name is another."
        )
    names_of_others(query.columns)


def _edited(sql, tokens):
    """The query with our INTO clause and its conditions in brackets; every line keeps its number."""
    depth, at = 0, {}
    for token in tokens:
        depth += (token.token_type == TokenType.L_PAREN) - (token.token_type == TokenType.R_PAREN)
        if depth == 0:
            at.setdefault(token.token_type, token)
    end = at[TokenType.SEMICOLON].start if TokenType.SEMICOLON in at else len(sql)
    source, select = at[TokenType.FROM], at[TokenType.SELECT]
    into, where = at.get(TokenType.INTO, source), at.get(TokenType.WHERE)
    breaks = "\n" * sql[into.start : source.start].count("\n")
    conditions = "1 = 1" if where is None else sql[where.end + 1 : end].rstrip()
    tables = sql[source.end + 1 : end if where is None else where.start].rstrip()
    return (
        f"{sql[: select.start]}SELECT{sql[select.end + 1 : into.start].rstrip(' ')} INTO {TABLE} {breaks}FROM{tables}"
        f"\nWHERE ({conditions}\n)\n"
    )
