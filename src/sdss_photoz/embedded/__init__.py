"""A simulated sky behind the archive's doors."""

VERSION = 1  # raised in any commit that changes what this stage writes
