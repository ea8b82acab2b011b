"""Classes of the user's, named ``package.module:Class``: found, and their source read, without importing them.

Modules are searched for as Python does, then in the folder of the configuration and in the working directory. So
nothing there hides a module of Python or of a library.
"""

import ast
import hashlib
import os
import sys
import sysconfig
from collections.abc import Iterator
from importlib import import_module, invalidate_caches
from importlib.machinery import PathFinder
from pathlib import Path

from sdss_photoz.errors import UserError

VARIABLE = "SDSS_PHOTOZ_MODULES"  # of the environment, which jobs inherit: further folders to search

INSTALLED = {"site-packages", "dist-packages"}  # folders of packages that are installed

_imported: dict[str, str] = {}  # digest of the source of each module that `load` imported


def search_in(folders: list[str | Path]) -> None:
    """Search further folders for modules, here and in the processes that this one starts."""
    newest = [str(Path(folder).resolve()) for folder in folders]
    os.environ[VARIABLE] = os.pathsep.join(dict.fromkeys([*newest, *added_folders()]))


def added_folders() -> list[str]:
    """The folders of `search_in`, the newest first."""
    return [folder for folder in os.environ.get(VARIABLE, "").split(os.pathsep) if folder]


def _folders() -> list[str]:
    return list(dict.fromkeys([*added_folders(), os.getcwd()]))


def source(path: str) -> Path:
    """The file of the module of ``package.module:Class``.

    Parameters
    ----------
    path : str
        The import path.

    Raises
    ------
    ValueError
        With a reason that goes on after "must be …": there is no such module, its source cannot be read or is not
        Python, or it defines no such class.
    """
    module, _, name = path.partition(":")
    if not all(part.isidentifier() for part in [*module.split("."), name]):
        raise ValueError("an import path like package.module:Network")
    file = _find(module)
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"), str(file))
    except (SyntaxError, ValueError) as error:
        line = f", line {error.lineno}" if getattr(error, "lineno", None) else ""
        raise ValueError(f"a module of Python, which {file}{line} is not ({getattr(error, 'msg', error)})") from None
    except OSError as error:
        raise ValueError(f"a module that can be read, which {file} cannot ({error.strerror})") from None
    _check_defines(tree, name, file)
    return file


def _find(module: str) -> Path:
    searched, parts = [*sys.path, *_folders()], module.split(".")
    for depth, part in enumerate(parts, 1):
        spec = PathFinder.find_spec(part, searched)  # by its last name: a whole one needs its package imported
        if spec is None:
            raise ValueError(
                f"a class that can be imported, and there is no module {'.'.join(parts[:depth])} in Python's path or "
                f"in {' or '.join(_folders())}"
            )
        searched = list(spec.submodule_search_locations or [])
    if spec.origin is None or not spec.origin.endswith(".py"):
        raise ValueError(f"a class of a module with a source file, which {module} has not")
    return Path(spec.origin)


def _check_defines(tree: ast.Module, name: str, file: Path) -> None:
    classes, others = [], {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            classes.append(node.name)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            others[node.name] = "a function"
        elif isinstance(node, ast.alias):  # of an import; of `from module import *` anything
            classes += [name if node.name == "*" else (node.asname or node.name)]
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            classes.append(node.id)
    if name not in classes:
        found = f"{name} is {others[name]}" if name in others else f"there is no {name}"
        raise ValueError(f"a class, and in {file} {found}")


def digest(path: str) -> str:
    """SHA-256 of the source of ``package.module:Class``, which `source` finds.

    Of the module's file; of one in a package, of all files ``.py`` in the folder of the topmost package, in the order
    of their paths, unless the package is installed, part of Python, or this library, which change with their versions.

    Raises
    ------
    ValueError
        As for `source`.
    """
    return _digest(path.partition(":")[0], source(path))


def _digest(module: str, file: Path) -> str:
    top = _package(module, file)
    if top is None:
        return _sha256(file)
    found = hashlib.sha256()
    for part, each in sorted((each.relative_to(top).as_posix(), each) for each in _sources(top)):
        try:
            found.update(f"{part} {_sha256(each)}\n".encode())
        except OSError as error:
            raise ValueError(f"in a package that can be read, which {each} cannot ({error.strerror})") from None
    return found.hexdigest()


def _package(module: str, file: Path) -> Path | None:
    """The folder of the topmost package of a module, where an edit of any file of it may change the class."""
    parts = module.split(".")
    depth = len(parts) if file.stem == "__init__" and parts[-1] != "__init__" else len(parts) - 1
    if depth == 0:
        return None
    top = Path(os.path.abspath(file)).parents[depth - 1]
    fixed = [sysconfig.get_path(kind) for kind in ("stdlib", "platstdlib", "purelib", "platlib")]
    fixed = [Path(folder).resolve() for folder in (*fixed, Path(__file__).parent)]
    if INSTALLED & set(top.parts) or any(top.resolve().is_relative_to(folder) for folder in fixed):
        return None
    return top


def _sources(top: Path) -> Iterator[Path]:
    """The files ``.py`` in a folder, but for hidden folders and installed packages."""
    for folder, folders, names in os.walk(top):
        folders[:] = [name for name in folders if not name.startswith(".") and name not in INSTALLED]
        yield from (Path(folder, name) for name in names if name.endswith(".py"))


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def recorded(name: str) -> dict[str, str]:
    """``source``, the `digest` of what an import path names, for records of a result; nothing for another name."""
    return {"source": digest(name)} if ":" in name else {}


def load(path: str) -> type:
    """Import ``package.module:Class``, or import it and its package anew if its source (`digest`) was edited since.

    Raises
    ------
    UserError
        If it cannot be found or imported.
    """
    try:
        file = source(path)
        name, _, member = path.partition(":")
        read, keeps_bytecode = _digest(name, file), sys.dont_write_bytecode
    except ValueError as error:
        raise UserError(f"{path!r} must be {error}.") from None
    sys.path += [folder for folder in _folders() if folder not in sys.path]
    sys.dont_write_bytecode = True  # it is compared by seconds and size: an edit could be missed
    invalidate_caches()
    try:
        if _imported.setdefault(name, read) != read:
            _forget(name, file)
        module = import_module(name)
        found = getattr(module, member)
    except Exception as error:  # whatever the module of the user does
        reason = " ".join(str(error).split())
        raise UserError(f"{path} cannot be imported ({type(error).__name__}: {reason}): correct {file}.") from error
    finally:
        sys.dont_write_bytecode = keeps_bytecode
    _imported[name] = read
    if Path(module.__file__).resolve() != file.resolve():
        raise UserError(
            f"{path} should come from {file}, but a module of that name was imported from {module.__file__}: rename it."
        )
    return found


def _forget(name: str, file: Path) -> None:
    """Forget a module that was imported, and with it all of its package that `digest` watches."""
    top = name.partition(".")[0]
    whole = [top] if _package(name, file) else []
    for known in list(sys.modules):
        if known == name or known in whole or any(known.startswith(f"{each}.") for each in whole):
            del sys.modules[known]
