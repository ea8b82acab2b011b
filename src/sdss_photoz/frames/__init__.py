"""Corrected frames: download, validation, and which frames overlap which galaxy."""
