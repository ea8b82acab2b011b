"""Training galaxies: their cubes, labels and order."""
