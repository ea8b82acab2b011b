"""Stage sample: selection, order, footprints, folds."""

VERSION = 1  # raised in any commit that changes what this stage writes
