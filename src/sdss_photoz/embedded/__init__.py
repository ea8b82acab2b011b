"""The embedded archive: a simulated sky, served through the interfaces of the survey's archive."""

VERSION = 1  # raised in any commit that changes what this stage writes
