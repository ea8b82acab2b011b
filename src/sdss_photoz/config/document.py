"""The JSON schema of the configuration, and the page of its keys; `python -m sdss_photoz.config.document` prints it."""

from sdss_photoz.config.block import Block
from sdss_photoz.config.groups import Group
from sdss_photoz.config.region import Region
from sdss_photoz.config.run import Config
from sdss_photoz.config.trial import Trial

NAMED = {"trials": Trial, "regions": Region, "groups": Group}  # keys of blocks with names of the user's


def json_schema() -> dict:
    """JSON schema of the configuration, for editors."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Config.model_json_schema()}


def rows(model, prefix=""):
    """Yield (key, kind, default, meaning) of a model's keys, including those of nested blocks."""
    for key, field in model.model_fields.items():
        if isinstance(field.default, Block):
            yield from rows(type(field.default), f"{prefix}{key}.")
            continue
        default = "none" if field.default is None else repr(field.default)
        if key == "trials":
            default = "one, images"
        yield f"{prefix}{key}", field.json_schema_extra["kind"], default, field.description
        if key in NAMED:
            yield from rows(NAMED[key], f"{prefix}{key}.NAME.")


def documentation() -> str:
    """The table of all keys, as Markdown."""
    lines = [
        "# Configuration",
        "",
        "Written by `make docs` from the models in `src/sdss_photoz/config/`.",
        "*what* keys enter the results: a change reruns the stages that use them. *how* keys rerun nothing.",
        "",
        "| key | kind | default | meaning |",
        "|---|---|---|---|",
        *(f"| `{key}` | {kind} | `{default}` | {meaning} |" for key, kind, default, meaning in rows(Config)),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(documentation(), end="")
