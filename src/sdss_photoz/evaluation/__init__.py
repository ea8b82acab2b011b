"""Stage evaluation: distributions and scores."""

VERSION = 1  # raised in any commit that changes what this stage writes
