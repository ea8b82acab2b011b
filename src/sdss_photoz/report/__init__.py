"""Stage report: tables, figures, page."""

VERSION = 4  # raised in any commit that changes what this stage writes
