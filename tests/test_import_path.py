"""The source of a class of the user's: its module, or the whole package that the module lies in."""

import hashlib
import sys
import sysconfig
from pathlib import Path

import pytest

import sdss_photoz
from sdss_photoz import import_path
from sdss_photoz.config import check
from sdss_photoz.errors import UserError

SCALE = "SCALE = 2\n"
MODULE = "from {package}.parts.scale import SCALE\nclass Network:\n    scale = SCALE\n"


@pytest.fixture
def package(tmp_path, monkeypatch):
    """The folder of a package with a module, and a sibling in a package within it."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / f"package_{tmp_path.name}"
    for path in (folder, folder / "parts"):
        path.mkdir()
        (path / "__init__.py").touch()
    (folder / "parts" / "scale.py").write_text(SCALE)
    (folder / "model.py").write_text(MODULE.format(package=folder.name))
    return folder


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def test_the_digest_of_a_single_module_is_that_of_its_file(package):
    """Folders and files beside it are no part of it."""
    module = package.parent / "alone.py"
    module.write_text("class Network: pass\n")
    assert import_path.digest("alone:Network") == sha256(module.read_bytes())


def test_the_digest_of_a_package_is_that_of_the_paths_and_the_contents_of_all_its_modules(package):
    files = sorted(path.relative_to(package).as_posix() for path in package.rglob("*.py"))
    assert files == ["__init__.py", "model.py", "parts/__init__.py", "parts/scale.py"]
    listed = "".join(f"{file} {sha256((package / file).read_bytes())}\n" for file in files)
    assert import_path.digest(f"{package.name}.model:Network") == sha256(listed.encode())
    (package / "__init__.py").write_text("class Network: pass\n")
    (package / "parts" / "__init__.py").write_text("class Network: pass\n")
    digests = {import_path.digest(f"{package.name}{part}:Network") for part in ("", ".parts", ".model")}
    assert len(digests) == 1, "a class of another module of the package is of the same source"


@pytest.mark.parametrize("change", ["edited", "added", "renamed", "removed"])
def test_a_change_of_a_sibling_is_another_source_and_so_another_parameter_of_the_training(package, change):
    network, sibling = f"{package.name}.model:Network", package / "parts" / "scale.py"
    config = check({"training": {"network": network}})
    before = config.sources()
    if change == "edited":
        sibling.write_text("SCALE = 3\n")
    elif change == "added":
        (package / "parts" / "more.py").touch()
    elif change == "renamed":
        sibling.rename(sibling.with_name("size.py"))
    else:
        sibling.unlink()
    after = config.sources()
    assert before.keys() == after.keys() == {network}
    assert before != after


def test_files_that_are_no_modules_of_the_package_are_no_part_of_its_source(package):
    path = f"{package.name}.model:Network"
    before = import_path.digest(path)
    for name in ("notes.txt", "__pycache__/model.cpython-311.pyc", ".venv/other.py", "site-packages/other.py"):
        (package / name).parent.mkdir(exist_ok=True)
        (package / name).write_text("x = 1\n")
    (package.parent / "beside.py").write_text("x = 1\n")
    assert import_path.digest(path) == before


@pytest.mark.parametrize(
    "path", ["json.decoder:JSONDecoder", "torch.nn.modules.linear:Linear", "sdss_photoz.files:whole"]
)
def test_of_packages_with_versions_of_their_own_the_module_alone_counts(path):
    """Python's, installed ones, and this library."""
    module = path.partition(":")[0].split(".")
    folder = {"json": sysconfig.get_path("stdlib"), "torch": sysconfig.get_path("platlib")}.get(module[0])
    file = Path(folder or Path(sdss_photoz.__file__).parents[1]).joinpath(*module).with_suffix(".py")
    path = path.replace("whole", "Path")
    assert import_path.digest(path) == sha256(file.read_bytes())


def test_a_package_whose_sibling_was_edited_is_imported_anew(package):
    path, sibling = f"{package.name}.model:Network", package / "parts" / "scale.py"
    assert import_path.load(path).scale == 2
    assert import_path.load(path) is import_path.load(path)
    sibling.write_text("SCALE = 3\n")
    assert import_path.load(path).scale == 3
    sibling.write_text("SCALE = \n")
    with pytest.raises(UserError, match="cannot be imported"):
        import_path.load(path)
    sibling.write_text("SCALE = 4\n")
    assert import_path.load(path).scale == 4
    assert sys.modules[f"{package.name}.parts.scale"].SCALE == 4
