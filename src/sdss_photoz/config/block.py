"""The base class of all blocks of the configuration, and the two kinds of keys."""

from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_]*$")]


def what(default, description: str, **bounds):
    """Define a key that enters results."""
    return Field(default, description=description, json_schema_extra={"kind": "what"}, **bounds)


def how(default, description: str, **bounds):
    """Define a key that changes places, speed or devices, never results."""
    return Field(default, description=description, json_schema_extra={"kind": "how"}, **bounds)


class Block(BaseModel):
    """A block of the configuration: immutable, without unknown keys, without coercion of values.

    Attributes
    ----------
    removed : dict
        Why a key of earlier versions (``key``) or one of its values (``key: value``) was removed, and what to do.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    removed: ClassVar[dict[str, str]] = {}

    def params(self) -> dict[str, Any]:
        """Return the *what* keys that differ from their defaults, as JSON values, for the ``params:`` of a rule.

        Keys at their default are absent, so that a later version with a new key reruns nothing.
        """
        return self._params()

    def _params(self):
        defaults = type(self)()
        found = {}
        for key in self.what_keys():
            value = getattr(self, key)
            if value != getattr(defaults, key):
                found[key] = _json(value)
        return {key: value for key, value in found.items() if value != {}}

    @classmethod
    def what_keys(cls) -> list[str]:
        """Return the names of the keys that enter results."""
        return [key for key, field in cls.model_fields.items() if field.json_schema_extra["kind"] == "what"]


def _json(value):
    """Convert a key's value to JSON, blocks without their *how* keys."""
    if isinstance(value, Block):
        return value.params()
    if isinstance(value, dict):
        return {key: _json(item) for key, item in value.items()}
    return list(value) if isinstance(value, tuple) else value
