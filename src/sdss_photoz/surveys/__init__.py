"""What a survey is: its bands, pixels and noise, the names of its frames, and the geometry of the sky."""

from sdss_photoz.surveys.sdss import CUBE, SDSS
from sdss_photoz.surveys.survey import Band, PixelGrid, Survey

__all__ = ["CUBE", "SDSS", "Band", "PixelGrid", "Survey"]
