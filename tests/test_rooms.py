"""The rooms of the library: what may import what, how long a module may be, and where their tests lie."""

import ast
import itertools
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections import defaultdict
from importlib import import_module
from pathlib import Path

import grimp
import pytest

from tests.conftest import ROOT

PACKAGE = ROOT / "src" / "sdss_photoz"
PAGE = ROOT / "docs" / "architecture.md"
LINES = 400  # of a module, at most
SURVEYED = {"BANDS", "Z_MAX", "Z_RANGE", "CUBE_SIZE"}  # properties of a survey or a grid, not of a module
NOT_ROOMS = {"benchmarks", "fixtures", "services", "workflow"}  # folders of tests/ that are no room's

CONTRACT = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"][0]
LAYERS = [re.findall(r"\w+", layer) for layer in CONTRACT["layers"]]  # highest first
HEIGHT = {name: -depth for depth, layer in enumerate(LAYERS) for name in layer}
ROOMS = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
BASE = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__"}
MODULES = sorted(PACKAGE.rglob("*.py"))


def name(path):
    return str(path.relative_to(ROOT))


# Imports


def test_the_contract_lists_each_room_and_each_module_of_the_base_once():
    listed = list(itertools.chain.from_iterable(LAYERS))
    assert sorted(listed) == sorted(ROOMS | BASE)
    assert min(HEIGHT[room] for room in ROOMS) > max(HEIGHT[module] for module in BASE)


def test_the_contract_spares_no_import():
    assert set(CONTRACT) == {"name", "type", "containers", "exhaustive", "layers"}
    assert (CONTRACT["type"], CONTRACT["containers"], CONTRACT["exhaustive"]) == ("layers", ["sdss_photoz"], True)


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A copy of the package's modules, in which imports may be added."""
    folder = tmp_path_factory.mktemp("rooms")
    shutil.copytree(PACKAGE, folder / "sdss_photoz", ignore=lambda _, names: [n for n in names if n == "__pycache__"])
    return folder


def lint(folder, config=ROOT / "pyproject.toml"):
    """The linter as `make lint` calls it, on the package of a folder."""
    program = Path(sys.executable).with_name("lint-imports")
    words = [program, "--no-cache", "--no-logo", config]
    return subprocess.run(
        words, cwd=folder, env={**os.environ, "PYTHONPATH": str(folder)}, capture_output=True, text=True
    )


def test_no_room_imports_one_above_it(copy):
    done = lint(copy)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("sample/up.py", "import sdss_photoz.cubes.store"),
        ("sample/up.py", "def later():\n    from sdss_photoz.evaluation import evaluate\n"),
        ("errors.py", "from sdss_photoz import files"),
        ("attic/__init__.py", ""),
    ],
    ids=["upwards", "upwards within a function", "upwards within the base", "a room that is not listed"],
)
def test_an_import_of_a_room_above_is_found(copy, module, line):
    path = copy / "sdss_photoz" / module
    was = path.read_text() if path.exists() else None
    path.parent.mkdir(exist_ok=True)
    path.write_text((was or "") + line)
    try:
        done = lint(copy)
    finally:
        path.unlink()
        if was is not None:
            path.write_text(was)
        elif path.name == "__init__.py":
            shutil.rmtree(path.parent)
    assert done.returncode == 1
    assert path.parent.name in done.stdout


# Modules


def test_a_module_fits_on_a_few_screens():
    lines = {name(path): len(path.read_text().splitlines()) for path in MODULES}
    assert {path: count for path, count in lines.items() if count > LINES} == {}


def names_of_module(tree):
    """Names that a module binds at its top level, also by imports and within if, try and with."""
    waiting = list(tree.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from (alias.asname or alias.name for alias in node.names)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        else:
            waiting.extend(ast.iter_child_nodes(node))


def test_bands_pixels_and_redshift_bins_are_no_constants_of_a_module():
    elsewhere = [path for path in MODULES if path.parent.name not in ("surveys", "scores", "config")]
    found = {name(path): SURVEYED & set(names_of_module(ast.parse(path.read_text()))) for path in elsewhere}
    assert {path: names for path, names in found.items() if names} == {}


# Tests


def test_the_tests_mirror_the_rooms():
    folders = {path.parent.name for path in (ROOT / "tests").glob("*/test_*.py")}
    assert folders >= ROOMS, f"rooms without tests: {ROOMS - folders}"
    assert {path.name for path in (ROOT / "tests").iterdir() if path.is_dir()} - {"__pycache__"} == ROOMS | NOT_ROOMS


def test_tests_leave_the_path_of_imports_alone():
    for path in (ROOT / "tests").rglob("*.py"):
        attributes = (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute))
        lines = [node.lineno for node in attributes if node.attr == "path" and ast.unparse(node) == "sys.path"]
        assert lines == [], name(path)


# docs/architecture.md


def table(heading):
    """Rows of the first table under a heading, each a list of its cells."""
    section = PAGE.read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = itertools.takewhile(lambda line: line.startswith("|"), section[section.index("\n|") + 1 :].splitlines())
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in list(lines)[2:]]


def quoted(cell):
    return re.findall(r"`([^`]+)`", cell)


def imports_between_rooms():
    graph = grimp.build_graph("sdss_photoz", cache_dir=None)
    for module in graph.modules - {"sdss_photoz"}:
        for imported in graph.find_modules_directly_imported_by(module) - {"sdss_photoz"}:
            room, other = module.split(".")[1], imported.split(".")[1]
            if room != other and {room, other} <= ROOMS:
                yield room, other


def test_the_page_lists_the_rooms_in_order():
    _, *rows = (quoted(row[0]) for row in table("Rooms"))
    assert [set(row) for row in rows] == [set(layer) for layer in reversed(LAYERS) if set(layer) <= ROOMS]


def test_the_drawing_shows_the_imports_of_the_rooms():
    arrows = re.findall(r"^ +(\w+) --> (\w+)$", PAGE.read_text(), re.MULTILINE)
    imports = set(imports_between_rooms())
    assert not set(arrows) - imports, "arrows without an import"
    below = defaultdict(set)
    for room, imported in sorted(arrows, key=lambda arrow: HEIGHT[arrow[0]]):
        below[room] |= {imported} | below[imported]
    assert not [(room, imported) for room, imported in imports if imported not in below[room]], "arrows to be drawn"


WAY = table("A galaxy's way through the rooms")
STEPS = [quoted(row[0])[0] for row in WAY]


def test_a_galaxys_way_goes_only_down():
    rooms = [quoted(room)[0] for _, room, *_ in WAY]
    assert [HEIGHT[room] for room in rooms] == sorted(HEIGHT[room] for room in rooms)
    for place, (step, *_, after) in enumerate(WAY):
        assert set(quoted(after)) <= set(STEPS[place + 1 :]), step
        assert quoted(after) or place == len(WAY) - 1


@pytest.mark.parametrize(("step", "room", "function", "written"), [row[:4] for row in WAY], ids=[row[2] for row in WAY])
def test_a_step_is_a_rule_that_calls_this_function_and_writes_these_files(step, room, function, written):
    (rule, *_), (room,), (dotted,) = quoted(step), quoted(room), quoted(function)
    assert dotted.split(".")[0] == room
    module, called = f"sdss_photoz.{dotted}".rsplit(".", 1)
    assert callable(getattr(import_module(module), called))
    rules = "".join(path.read_text() for path in (ROOT / "workflow" / "rules").glob("*.smk"))
    assert re.search(rf"^ *rule {rule}:$", rules, re.MULTILINE)
    if not step.startswith("*"):
        imported = {
            (node.module, alias.name)
            for node in ast.walk(ast.parse((ROOT / "workflow" / "scripts" / f"{rule}.py").read_text()))
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }
        assert (module, called) in imported
    patterns = {re.sub(r"\{+\w+\}+", "*", path) for path in re.findall(r'"\{RUN\}/([^"]+)"', rules)}
    assert {re.sub(r"\b[A-Z]+\b", "*", path) for path in quoted(written)} <= patterns
