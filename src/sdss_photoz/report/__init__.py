"""Stage report: tables, figures, page."""

VERSION = 3  # raised in any commit that changes what this stage writes
