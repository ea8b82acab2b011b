"""Stage report: tables, figures, page."""

VERSION = 1  # raised in any commit that changes what this stage writes
