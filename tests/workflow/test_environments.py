"""Each rule's conda environment, and the package itself, name every library that the rule's script imports."""

import importlib.metadata
import re
import subprocess
import sys
import tomllib

import pytest
import yaml
from packaging.specifiers import SpecifierSet

DISTRIBUTIONS = {  # the name of the import: its name on conda-forge and on the package index, where they differ
    "astropy_healpix": ("astropy-healpix", "astropy-healpix"),
    "duckdb": ("python-duckdb", "duckdb"),
    "matplotlib": ("matplotlib-base", "matplotlib"),
    "qp": ("qp-prob", "qp-prob"),
    "tensorboardX": ("tensorboardx", "tensorboardX"),
    "sklearn": ("scikit-learn", "scikit-learn"),
    "torch": ("pytorch", "torch"),
    "yaml": ("pyyaml", "pyyaml"),
}
IMPORTED = """
import ast, importlib, sys
from pathlib import Path

def imports(text):
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module

found, waiting, seen = set(), [Path(path).read_text() for path in sys.argv[1:]], set()
while waiting:
    for name in imports(waiting.pop()):
        top = name.split(".")[0]
        if top != "sdss_photoz":
            found.add(top)
        elif name not in seen:
            seen.add(name)
            waiting.append(Path(importlib.util.find_spec(name).origin).read_text())
print(*sorted(found - set(sys.stdlib_module_names)))
"""


def imported_by(scripts):
    """Libraries that scripts import, directly or through the package's modules."""
    words = [sys.executable, "-c", "import importlib.util\n" + IMPORTED, *map(str, scripts)]
    return set(subprocess.run(words, capture_output=True, text=True, check=True).stdout.split())


def scripts_by_environment(root):
    """The scripts of the rules that name each environment."""
    found = {}
    for rules in sorted((root / "workflow" / "rules").glob("*.smk")):
        for rule in rules.read_text().split("\nrule ")[1:]:
            environment = re.search(r"envs/(\w+\.yaml)", rule)[1]
            script = re.search(r"scripts/(\w+\.py)", rule)[1]
            found.setdefault(environment, []).append(root / "workflow" / "scripts" / script)
    return found


@pytest.mark.parametrize("environment", ["data.yaml", "training.yaml"])
def test_an_environment_names_all_that_its_rules_import(root, environment):
    listed = yaml.safe_load((root / "envs" / environment).read_text())["dependencies"]
    by_pip = [name for item in listed if isinstance(item, dict) for name in item["pip"]]
    given = {item.split()[0] for item in (*listed, *by_pip) if isinstance(item, str)}
    scripts = scripts_by_environment(root)[environment]
    needed = {DISTRIBUTIONS.get(name, (name, name))[0] for name in imported_by(scripts)}
    assert len(needed) > 5
    assert needed <= given, needed - given


def test_the_package_names_all_that_it_imports(root):
    given = set(tomllib.loads((root / "pyproject.toml").read_text())["project"]["dependencies"])
    scripts = [script for group in scripts_by_environment(root).values() for script in group]
    needed = {DISTRIBUTIONS.get(name, (name, name))[1] for name in imported_by([*scripts])}
    assert needed <= given, needed - given


def test_every_pin_takes_the_oldest_python_that_the_package_takes(root):
    oldest = tomllib.loads((root / "pyproject.toml").read_text())["project"]["requires-python"].removeprefix(">=")
    pins = re.findall(r"^([\w.-]+)==", (root / "constraints.txt").read_text(), re.MULTILINE)
    assert len(pins) > 100
    refused = {}
    for name in pins:
        asked = importlib.metadata.metadata(name).get("Requires-Python")
        if asked and not SpecifierSet(asked).contains(f"{oldest}.0"):
            refused[name] = asked
    assert not refused
