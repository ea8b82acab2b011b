"""Classes of the user's, named ``package.module:Class``: found, and their source read, without importing them.

Modules are searched for as Python does, then in the folder of the configuration and in the working directory. So
nothing there hides a module of Python or of a library.
"""

import ast
import hashlib
import os
import sys
from importlib import import_module, invalidate_caches, reload
from importlib.machinery import PathFinder
from pathlib import Path

from sdss_photoz.errors import UserError

VARIABLE = "SDSS_PHOTOZ_MODULES"  # of the environment, which jobs inherit: further folders to search

_imported: dict[str, str] = {}  # SHA-256 of the source of each module that `load` imported


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
    """SHA-256 of the source of the module of ``package.module:Class``, which `source` finds."""
    return _sha256(source(path))


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def recorded(name: str) -> dict[str, str]:
    """``source``, the `digest` of what an import path names, for records of a result; nothing for another name."""
    return {"source": digest(name)} if ":" in name else {}


def load(path: str) -> type:
    """Import ``package.module:Class``, or import it anew if its source was edited since.

    Raises
    ------
    UserError
        If it cannot be found or imported.
    """
    try:
        file = source(path)
    except ValueError as error:
        raise UserError(f"{path!r} must be {error}.") from None
    name, _, member = path.partition(":")
    read, keeps_bytecode = _sha256(file), sys.dont_write_bytecode
    sys.path += [folder for folder in _folders() if folder not in sys.path]
    sys.dont_write_bytecode = True  # it is compared by seconds and size: an edit could be missed
    invalidate_caches()
    try:
        module = import_module(name)
        if _imported.setdefault(name, read) != read:
            module = reload(module)
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
