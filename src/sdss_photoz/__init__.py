"""Photometric redshifts from SDSS images, from the archive to a report."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("sdss-photoz")
except PackageNotFoundError:  # run from a source tree on PYTHONPATH, as the conda environments do
    __version__ = "0.1.0"
