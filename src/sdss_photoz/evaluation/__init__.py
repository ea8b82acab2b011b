"""Stage evaluation: distributions and scores."""

VERSION = 3  # raised in any commit that changes what this stage writes
