"""Check the values of a block, and describe what is wrong in one sentence."""

import difflib

from pydantic import ValidationError

from sdss_photoz.config.block import Block
from sdss_photoz.errors import UserError


def parse(model: type[Block], values: dict, prefix: str = "") -> Block:
    """Check the values of a block.

    Parameters
    ----------
    model : type
        The block's model.
    values : dict
        As read from YAML.
    prefix : str
        Path of the block in the configuration, for messages.

    Raises
    ------
    UserError
        One sentence that names the key, its value and what is allowed.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise UserError(_sentence(model, error.errors()[0], prefix)) from None


def _sentence(model, error, prefix):
    """Return the message for an error of pydantic."""
    place = tuple(part for part in error["loc"] if part != "[key]")
    key = ".".join(str(part) for part in (*filter(None, [prefix]), *place)) or "the configuration"
    block = _block_at(model, place[:-1])
    name = str(place[-1]) if place else ""
    if name in block.removed:
        return f"{key} was removed, {block.removed[name]}"
    if (value := f"{name}: {error['input']}") in block.removed:
        return f"{key} is {error['input']!r}, which was removed, {block.removed[value]}"
    if error["type"] == "extra_forbidden":
        known = list(block.model_fields)
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"allowed are {', '.join(known)}."
        return f"{key} is not a key of the configuration: {hint}"
    reason = error["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
    if error["type"] == "string_pattern_mismatch":
        reason = "a name of letters, digits and underscores"
    return f"{key} is {error['input']!r}, but must be {reason}."


def _block_at(model: type[Block], path: tuple) -> type[Block]:
    """The model of the block at `path` (a tuple of keys) of a model."""
    for key in path:
        annotation = model.model_fields[key].annotation if key in getattr(model, "model_fields", {}) else None
        arguments = getattr(annotation, "__args__", ())
        model = next((a for a in (annotation, *arguments) if isinstance(a, type) and issubclass(a, Block)), model)
    return model
