"""Stage archive: the catalogue and the frames."""

VERSION = 2  # raised in any commit that changes what this stage writes
