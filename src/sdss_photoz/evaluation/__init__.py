"""Stage evaluation: distributions and scores."""

VERSION = 2  # raised in any commit that changes what this stage writes
