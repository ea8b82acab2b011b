"""What README and docs show is run: every block, in the environment that the README installs.

Blocks run in a checkout whose `results/default` is the tiny run, with the files that they name. A command that cannot
run here stands in `ELSEWHERE`, with the reason and what is done instead: a shorter command, or another test.
"""

import os
import re
import shlex
import signal
import subprocess
import sys
import tomllib
from collections import deque
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from tests.conftest import ROOT, missing_oracles

from sdss_photoz import config
from sdss_photoz.app import cli

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
TESTS = "runs tests"
REAL_SKY = "asks the real archive"
ELSEWHERE = {  # command: reason, what is done instead
    "git clone REPOSITORY sdss-photoz && cd sdss-photoz": ("fetches the project", "test -f Snakefile"),
    "make run": (
        "installs, and runs for minutes",
        "make -n run | grep '^snakemake --cores all'",
        "tests/workflow/test_default_run.py::test_a_network_ends_half_a_nat_below_the_entropy_of_the_training_redshifts",
    ),
    "make test": ("runs these tests", "make -n test | grep '^pytest'"),
    "make lint": ("looks at a whole checkout", "make -n lint | grep '^lint-imports'"),
    "make docs": (
        "writes into the checkout",
        "make -n docs | grep '^sdss-photoz schema > config.schema.json'",
        "tests/config/test_config.py::test_schema_and_documentation_are_those_of_the_models",
    ),
    "pytest tests/scores -n 0 -q": (TESTS, "test -d tests/scores"),
    'pytest tests/sample tests/frames -m "not slow"': (TESTS, "test -d tests/sample -a -d tests/frames"),
    "pytest tests/workflow/test_versions.py -n 0 --tiny-run ../tiny": (
        TESTS,
        "test -f tests/workflow/test_versions.py",
    ),
    "snakemake --cores 2 --configfile tests/tiny.yaml --directory ../tiny": (
        "a run of its own",
        "snakemake -n --quiet --configfile tests/tiny.yaml --directory ../tiny",
    ),
    "snakemake --cores all --configfile my.yaml": ("a run of its own", "snakemake -n --quiet --configfile my.yaml"),
    "snakemake --profile slurm": (
        "needs a cluster",
        "tests/workflow/test_slurm.py::test_the_slurm_profile_takes_the_tiny_run_through_a_cluster",
    ),
    "snakemake --report report.html": (
        "a test of its own",
        "tests/workflow/test_run.py::test_snakemakes_own_report_is_written",
    ),
    "snakemake --cores all --configfile config/sdss-tile.yaml": (
        REAL_SKY,
        "tests/workflow/test_ready_runs.py::test_a_dry_run_shows_every_job_of_a_ready_run",
    ),
    "snakemake --cores all --force results/default/cubes.zarr/flux/c/3/0/0/0": (
        "makes a chunk that the tiny run has not",
        "snakemake -n --quiet --force results/tiny/cubes.zarr/flux/c/1/0/0/0",
    ),
    "python -m tests.services results/default/archive --fault 503=0.05 --fault frame:reset=0.05": (
        "serves until it is stopped",
        "tests/workflow/test_docs.py::test_the_server_of_a_rehearsal_serves_until_it_is_stopped",
    ),
}


class Block(NamedTuple):
    page: Path
    line: int  # of its first line
    language: str
    text: str

    @property
    def commands(self):
        """Commands of a shell block, without what is said of them."""
        return [words for line in self.text.splitlines() if (words := re.split(r"(?:^|\s)#", line)[0].strip())]


def blocks():
    """Every fenced block of every page."""
    for page in PAGES:
        text = page.read_text()
        fences = list(re.finditer(r"^ *```(.*)$", text, re.MULTILINE))
        assert len(fences) % 2 == 0, f"{page.name} has a block without an end"
        for start, end in zip(fences[::2], fences[1::2], strict=True):
            line = text.count("\n", 0, start.end()) + 2
            yield Block(page, line, start[1].strip(), text[start.end() + 1 : end.start()])


BLOCKS = list(blocks())
SHELL = [block for block in BLOCKS if block.language in ("", "bash", "sh")]
YAML = [block for block in BLOCKS if block.language == "yaml"]
PYTHON = [block for block in BLOCKS if block.language == "python"]


def name(block):
    return f"{block.page.relative_to(ROOT)}:{block.line}"


# The environment

ONLY_INSTALLED = """
import sys
from importlib.machinery import PathFinder

class Installed(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in {refused!r} else super().find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Installed
"""


def installed(requirements):
    """Names of the distributions that an install of the requirements brings here."""
    found, waiting = set(), deque(map(Requirement, requirements))
    while waiting:
        requirement = waiting.popleft()
        for extra in ("", *requirement.extras):
            key = canonicalize_name(requirement.name), extra
            if key in found:
                continue
            found.add(key)
            try:
                needed = map(Requirement, requires(requirement.name) or ())
            except PackageNotFoundError:  # an optional one, of another system
                continue
            waiting += [
                other
                for other in needed
                if (not other.marker and not extra) or (other.marker and other.marker.evaluate({"extra": extra}))
            ]
    return {distribution for distribution, _ in found}


def refused():
    """Modules that the install of the README does not bring, but that are here for the tests."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    brought = installed(project["dependencies"]) | {project["name"], "pip", "setuptools"}
    return {
        module
        for module, distributions in packages_distributions().items()
        if not brought & set(map(canonicalize_name, distributions))
    }


@pytest.fixture(scope="module")
def checkout(tiny, tmp_path_factory):
    """A checkout as after the README's first commands, and the files that its pages name."""
    folder = tiny.copy(tmp_path_factory.mktemp("docs") / "checkout").directory
    for path in ROOT.iterdir():
        if not path.name.startswith(".") and path.name not in ("results", "config.yaml"):
            (folder / path.name).symlink_to(path)
    settings = tiny.configfile.read_text()
    (folder / "config.yaml").write_text(settings)
    (folder / "my.yaml").write_text(yaml.safe_dump(yaml.safe_load(settings) | {"run": "mine"}))
    (folder / "results" / "default").symlink_to("tiny")
    (folder / "MIRROR").symlink_to("results/tiny/archive/sas")
    galaxies = pd.read_parquet(tiny.results / "sample" / "galaxies.parquet")
    galaxies[["ra", "dec", "ebv"]].head(10).to_csv(folder / "positions.csv", index=False)
    (folder / "table.parquet").symlink_to("results/tiny/evaluation/images/photoz.parquet")
    library = folder / ".venv" / "library"
    library.mkdir(parents=True)
    (library / "sitecustomize.py").write_text(ONLY_INSTALLED.format(refused=refused()))
    (folder / ".venv" / "bin").mkdir()
    (folder / ".venv" / "bin" / "activate").touch()
    return folder


def environment(checkout):
    """That of an activated install, without what only the tests brought."""
    programs = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    path = os.pathsep.join([str(checkout / ".venv" / "library"), str(ROOT / "src")])
    return {**os.environ, "PATH": programs, "PYTHONPATH": path, "NO_COLOR": "1", "MPLBACKEND": "agg"}


def run(checkout, *words, **options):
    return subprocess.run(words, cwd=checkout, env=environment(checkout), capture_output=True, text=True, **options)


def test_blocks_run_without_what_only_the_tests_need(checkout):
    assert {"xarray", "hypothesis", "pytest"} <= refused()
    assert not {"numpy", "torch", "zarr", "snakemake", "sdss_photoz"} & refused()
    done = run(checkout, sys.executable, "-c", "import numpy, zarr, xarray")
    assert "No module named 'xarray'" in done.stderr


# The blocks


def test_every_block_is_of_a_language_that_is_run():
    # tests/test_rooms.py compares drawings with the code; tests/archive/test_own_query.py sends the queries
    others = [block for block in BLOCKS if block.language in ("mermaid", "sql")]
    assert [name(block) for block in BLOCKS if block not in (*SHELL, *YAML, *PYTHON, *others)] == []
    assert len(PYTHON) >= 2
    assert len(SHELL) >= 10


@pytest.mark.parametrize("block", PYTHON, ids=name)
def test_a_block_of_python_runs(block, checkout):
    done = run(checkout, sys.executable, "-c", block.text)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("block", YAML, ids=name)
def test_a_block_of_yaml_is_a_configuration(block, tmp_path):
    for module in (other for other in PYTHON if other.page == block.page):
        if named := re.match(r"# (\w+\.py)$", module.text, re.MULTILINE):
            (tmp_path / named[1]).write_text(module.text)
    path = tmp_path / "my.yaml"
    path.write_text(block.text)
    config.load(path)


def test_shell_commands_are_those_of_the_table_or_are_run():
    commands = {command for block in SHELL for command in block.commands}
    assert set(ELSEWHERE) <= commands, "what no page shows any more goes from the table"
    for _, *instead in ELSEWHERE.values():
        for test in (each for each in instead if "::" in each):
            path, function = test.split("::")
            assert f"def {function}(" in (ROOT / path).read_text(), test


@pytest.mark.parametrize("block", SHELL, ids=name)
def test_a_block_of_shell_runs(block, checkout):
    lines = []
    for command in block.commands:
        _, *instead = ELSEWHERE.get(command, (None, command))
        lines += [each for each in instead if "::" not in each]
    script = "\n".join(["set -euo pipefail", *lines])
    done = run(checkout, "bash", "-c", script, input="a name\na password\n")
    assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"


def test_the_server_of_a_rehearsal_serves_until_it_is_stopped(checkout):
    (command,) = (each for block in SHELL for each in block.commands if each.startswith("python -m tests.services"))
    server = subprocess.Popen(
        shlex.split(command), cwd=checkout, env=environment(checkout), stdout=subprocess.PIPE, text=True
    )
    try:
        keys = next(line for line in server.stdout if line.strip().startswith("sas:"))
        assert keys.split(":", 1)[1].strip().startswith("http://")
    finally:
        server.send_signal(signal.SIGINT)
    assert server.wait() == 0


# What make test says at its end


def test_the_tests_name_at_their_end_what_they_were_not_run_with(tmp_path):
    (tmp_path / "README.md").touch()  # real data, as far as this test looks
    environment = {name: value for name, value in os.environ.items() if name != "SDSS_PHOTOZ_NO_SKIPS"}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-n", "1", "tests/cubes/test_reproject_lanczos3.py", "-k", "swarps"],
        cwd=ROOT,
        env={**environment, "PATH": str(Path(sys.executable).parent), "SDSS_PHOTOZ_DATA": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    heading, line, last = done.stdout.splitlines()[-3:]
    assert re.fullmatch("=+ not run here =+", heading), done.stdout + done.stderr
    assert line == "1 test skipped: SWarp, whose images the cubes are compared with: apt install swarp"
    assert "1 skipped" in last


def test_each_reason_to_skip_has_a_remedy_or_stands_for_itself():
    reasons = [
        "SWarp is not installed",
        "munged is not installed",
        "another Slurm runs on this machine",
        "a new reason",
    ]
    swarp, slurm, new = sorted(missing_oracles(reasons), key=lambda each: ("new" in each, "Slurm" in each))
    assert swarp.endswith("apt install swarp")
    assert slurm.startswith("2 tests skipped: a Slurm cluster")
    assert new == "1 test skipped: a new reason"


# Files and commands within sentences


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_file_of_code_that_a_sentence_names_is_there(page):
    sentences = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    named = re.findall(r"`((?:[a-z_]+/)+[a-z_0-9]+\.(?:py|smk))`|`((?:src|tests|workflow)/[a-z_/]*)`", sentences)
    roots = (ROOT, ROOT / "src" / "sdss_photoz")
    paths = {path for pair in named for path in pair if path}
    assert [path for path in sorted(paths) if not any((root / path).exists() for root in roots)] == []


SPAN = re.compile(r"`((?:python|pytest|snakemake|sdss-photoz) [^`]+)`")


def spans():
    for page in PAGES:
        sentences = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
        yield from ((page.relative_to(ROOT), command) for command in SPAN.findall(sentences))


@pytest.mark.parametrize(("page", "command"), sorted(set(spans())), ids=str)
def test_a_command_within_a_sentence_names_files_and_options_that_there_are(page, command, capsys):
    words = command.split()
    files = [word for word in words if re.match(r"(benchmarks|tests|config)/", word)]
    if words[:2] == ["python", "-m"]:
        module = ROOT / ("src" if words[2].startswith("sdss_photoz") else "") / words[2].replace(".", "/")
        files.append(module / "__main__.py" if module.is_dir() else module.with_suffix(".py"))
    assert [file for file in files if not (ROOT / file).exists()] == []
    options = [word for word in words if word.startswith("--")]
    known = ""
    if words[0] == "sdss-photoz":
        with pytest.raises(SystemExit):
            cli.main([words[1], "--help"])
        known = capsys.readouterr().out
    elif words[0] == "python":
        known = (ROOT / files[0]).read_text() + " --help"
    if known:
        assert [option for option in options if option not in known] == []
