"""Refuse T-SQL that DuckDB does not support or would answer differently from SQL Server."""

from sqlglot import exp

from sdss_photoz.embedded.schema import PHOTO_FLAGS, PHOTO_TYPES
from sdss_photoz.errors import UserError

ENUMERATIONS = {"fphotoflags": PHOTO_FLAGS, "fphototype": PHOTO_TYPES}
MACROS = {"fdistancearcmineq", "fphototypen"}  # functions of the survey, defined as DuckDB macros in tsql.py
KNOWN = (  # functions of the same meaning, or converted to it by tsql.py
    *(exp.Count, exp.Sum, exp.Min, exp.Max, exp.Avg, exp.Stddev, exp.Abs, exp.Floor, exp.Ceil, exp.Round, exp.Sqrt),
    *(exp.Pow, exp.Exp, exp.Ln, exp.Log, exp.Sin, exp.Cos, exp.Tan, exp.Asin, exp.Acos, exp.Atan, exp.Atan2),
    *(exp.Degrees, exp.Radians, exp.Pi, exp.Sign, exp.Coalesce, exp.Nullif, exp.Case, exp.If, exp.Cast, exp.Convert),
    *(exp.Upper, exp.Lower, exp.And, exp.Or, exp.Xor, exp.Exists, exp.Any, exp.RowNumber),
)


def refuse(what: str):
    """Raise a `UserError` that names an unsupported construct."""
    raise UserError(
        f"the embedded archive does not answer {what}: it knows SELECT with joins, subqueries and plain functions."
    )


def check_constructs(tree):
    """Refuse constructs that sqlglot translates but DuckDB does not answer as SQL Server does."""
    for node in tree.walk():
        if isinstance(node, exp.Lateral):
            refuse("CROSS APPLY" if node.args.get("cross_apply") else "OUTER APPLY")
        elif isinstance(node, exp.Pivot):
            refuse("UNPIVOT" if node.args.get("unpivot") else "PIVOT")
        elif isinstance(node, exp.Parameter | exp.SessionParameter):
            refuse(f"variables such as @{node.name}")
        elif isinstance(node, exp.Identifier) and node.args.get("temporary"):
            refuse(f"temporary tables such as #{node.name}")
        elif isinstance(node, exp.Limit | exp.Fetch) and "PERCENT" in node.sql("tsql").upper():
            refuse("TOP … PERCENT")
        elif isinstance(node, exp.LimitOptions) and node.args.get("with_ties"):
            refuse("TOP … WITH TIES")
        elif isinstance(node, exp.Table) and isinstance(node.this, exp.Func):
            refuse(f"the table function {node.this.name}")
        elif isinstance(node, exp.Func):
            if not isinstance(node, KNOWN) and node.name.lower() not in {*ENUMERATIONS, *MACROS}:
                name = node.name if isinstance(node, exp.Anonymous) else node.sql("tsql").split("(")[0]
                refuse(f"the function {name}")
            if isinstance(node, exp.Round) and node.args.get("truncate"):
                refuse("ROUND with a third argument")
            if isinstance(node, exp.Convert) and node.args.get("style"):
                refuse("CONVERT with a style")
        elif isinstance(node, exp.Like) and "[" in node.expression.name:
            refuse("LIKE with [ ]")


def check_aliases(tree, columns):
    """Refuse a SELECT's own alias in its other clauses, where SQL Server does not know it but DuckDB does.

    `columns` are those of the query's tables, in lower case: an alias of the same name as a column is allowed.
    """
    for select in tree.find_all(exp.Select):
        names = {projection.alias.lower() for projection in select.expressions if isinstance(projection, exp.Alias)}
        inner = {
            name.lower() for other in tree.find_all(exp.Select) if other is not select for name in other.named_selects
        }
        clauses = [
            *select.expressions,
            *(select.args.get(key) for key in ("where", "group", "having")),
            *select.args.get("joins", []),
        ]
        for column in (c for clause in clauses if clause is not None for c in clause.find_all(exp.Column)):
            name = column.name.lower()
            if not column.table and name in names - columns - inner and column.find_ancestor(exp.Select) is select:
                raise UserError(
                    f"{column.name} is an alias of the same SELECT, which T-SQL does not know in WHERE, GROUP BY or "
                    "another column: repeat its expression."
                )


def check_into(tree):
    """Refuse SELECT INTO with two columns of one name, or a column without a name."""
    names = [projection.alias_or_name.lower() for projection in tree.selects]
    twice = sorted({name for name in names if names.count(name) > 1 and name != "*"})
    if twice:
        raise UserError(f"SELECT INTO would make a table with two columns {twice[0]!r}: give one of them an alias.")
    if "" in names:
        raise UserError(f"column {names.index('') + 1} of the table made by SELECT INTO has no name: give it an alias.")
