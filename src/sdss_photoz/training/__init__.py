"""Stage training: networks per fold and member."""

VERSION = 4  # raised in any commit that changes what this stage writes
