"""Stage report: tables, figures, page."""

VERSION = 5  # raised in any commit that changes what this stage writes
