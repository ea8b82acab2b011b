"""Stage report: tables, figures, page."""

VERSION = 2  # raised in any commit that changes what this stage writes
