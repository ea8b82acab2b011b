"""Stage archive: the catalogue and the frames."""

VERSION = 3  # raised in any commit that changes what this stage writes
