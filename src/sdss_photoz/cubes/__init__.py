"""Stage cubes: frames resampled into 64 x 64 x 5 cubes."""

VERSION = 3  # raised in any commit that changes what this stage writes
