"""Transformations of the cubes that a network reads."""
