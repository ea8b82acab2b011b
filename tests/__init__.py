"""Tests, in folders named after the rooms of the package; what they share is in `tests/fixtures/`."""
