"""Losses for redshift labels."""
