"""Read a configuration, and refuse values that YAML would silently drop or change."""

from pathlib import Path
from typing import Any

import yaml

from sdss_photoz.config.run import Config, check
from sdss_photoz.errors import UserError
from sdss_photoz.import_path import search_in


def load(path) -> Config:
    """Read and check a YAML file, whose folder may hold modules that it names.

    Raises
    ------
    UserError
        If the file is missing, is not YAML, or has a wrong key or value.
    """
    values = read_yaml(path) or {}
    search_in([Path(path).parent])
    return check(values)


def read_yaml(path) -> Any:
    """Read a YAML file, and refuse values that YAML would silently drop or change.

    Raises
    ------
    UserError
        If the file cannot be read or is not YAML, a block has a key twice (YAML keeps the last), or a number has colons
        (YAML 1.1 reads 12:30:00 as 45000).
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
        _refuse_lost(yaml.compose(text, Loader=yaml.SafeLoader), path)
        return yaml.safe_load(text)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): give the path of a configuration file.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not YAML: {' '.join(str(error).split())}") from None


def _refuse_lost(node, path, place="", above=()):
    """Refuse repeated keys and numbers with colons in a node of a YAML file and in its descendants."""
    if node is None or node in above:  # an alias of one of its ancestors
        return
    inside = []
    if isinstance(node, yaml.MappingNode):
        lines = {}
        for key, value in node.value:
            name, line = str(key.value), key.start_mark.line + 1
            if name in lines:
                raise UserError(
                    f"{path}: {place}{name} stands twice, in lines {lines[name]} and {line}, and the first would be "
                    "lost: join them."
                )
            lines[name] = line
            inside.append((value, f"{place}{name}."))
    elif isinstance(node, yaml.SequenceNode):
        inside = [(item, place) for item in node.value]
    elif ":" in node.value and node.tag in ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float"):
        number = yaml.safe_load(node.value)
        raise UserError(
            f"{path}: {place.rstrip('.')} in line {node.start_mark.line + 1} is {node.value}, which YAML reads as "
            f"{number:g}: write degrees, for right ascension -360 to 360 ({node.value} is {number / 240:.9g}), for "
            f"declination -90 to 90 ({node.value} is {number / 3600:.9g})."
        )
    for child, name in inside:
        _refuse_lost(child, path, name, (*above, node))


def with_types(value):
    """Convert numbers and booleans within ``--config`` values, which Snakemake passes as text."""
    if isinstance(value, dict):
        return {key: with_types(item) for key, item in value.items()}
    if isinstance(value, list):
        return [with_types(item) for item in value]
    return yaml.safe_load(value) if isinstance(value, str) else value
