"""Stage report: tables, figures, page."""

VERSION = 6  # raised in any commit that changes what this stage writes
