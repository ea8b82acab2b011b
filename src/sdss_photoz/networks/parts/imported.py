"""A network of the user's, named by an import path: built with its own options, or refused in a sentence."""

import inspect

from torch import nn

from sdss_photoz import import_path
from sdss_photoz.errors import UserError
from sdss_photoz.inputs.inputs import Inputs


def construct(path: str, inputs: Inputs, outputs: int, options: dict) -> nn.Module:
    """Build ``package.module:Network`` as ``Network(inputs, outputs, **options)``.

    Parameters
    ----------
    path : str
        The import path.
    inputs : Inputs
        What the network reads of a galaxy.
    outputs : int
        Numbers that it returns for a galaxy.
    options : dict
        Keyword arguments, checked by the pydantic model ``Network.Options`` where there is one: its fields, defaults
        included, are then the arguments.

    Raises
    ------
    UserError
        If there is no such network, it takes other options, or it cannot be built.
    """
    kind = import_path.load(path)
    if not (isinstance(kind, type) and issubclass(kind, nn.Module)):
        raise UserError(f"training.network is {path}, which must be a class derived from torch.nn.Module: it is none.")
    arguments = _checked(path, kind, options)
    try:
        return kind(inputs, outputs, **arguments)
    except Exception as error:  # whatever the network of the user does
        raise refusal(f"cannot be built for {outputs} outputs", path, error) from error


def refusal(what: str, path: str, error: Exception) -> UserError:
    """One sentence for an exception of a network of the user's."""
    return UserError(f"{path} {what} ({type(error).__name__}: {' '.join(str(error).split())}): correct its class.")


def _checked(path: str, kind: type[nn.Module], options: dict) -> dict:
    """Keyword arguments for a network: `options`, as its model ``Options`` or else its signature takes them."""
    if (model := getattr(kind, "Options", None)) is None:
        try:
            inspect.signature(kind).bind(None, None, **options)
        except TypeError as error:
            raise UserError(
                f"training.options is {options!r}, but {path} is called as {kind.__name__}(inputs, outputs, **options) "
                f"and takes {kind.__name__}{inspect.signature(kind)} ({error}): correct the options or the class."
            ) from None
        return options
    if unknown := options.keys() - model.model_fields.keys():
        name = min(unknown)
        raise UserError(
            f"training.options.{name} is no option of {path}, which takes {', '.join(model.model_fields) or 'none'}: "
            "correct or delete it."
        )
    try:
        found = model(**options)
    except ValueError as error:  # pydantic's
        first = error.errors()[0]
        key = ".".join(map(str, ("training.options", *first["loc"])))
        raise UserError(f"{key} is {first['input']!r}, but {path} takes another: {first['msg']}.") from None
    return {name: getattr(found, name) for name in model.model_fields}
