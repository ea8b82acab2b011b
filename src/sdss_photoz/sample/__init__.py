"""Stage sample: selection of galaxies, their order on the sky, and folds."""

VERSION = 1  # raised in any commit that changes what this stage writes
