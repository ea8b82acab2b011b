"""The catalogue of the embedded archive's tests."""

from tests.embedded.conftest import catalog, sky

__all__ = ["catalog", "sky"]
