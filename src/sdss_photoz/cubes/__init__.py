"""Stage cubes: frames resampled into cubes, by default of 64 x 64 pixels in five bands."""

VERSION = 3  # raised in any commit that changes what this stage writes
