"""What the model files of tests tell."""

from sdss_photoz import training


def description(**changes) -> dict:
    """Of the first member of fold 0 of the trial images, but for some entries."""
    told = {"network": "inception_small", "bins": 180, "stretch": "asinh"}
    return told | {"trial": "images", "fold": 0, "member": 0, "version": training.VERSION} | changes
