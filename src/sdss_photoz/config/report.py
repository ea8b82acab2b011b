"""The page."""

from sdss_photoz.config.block import Block, what


class Report(Block):
    """The page."""

    title: str = what("Photometric redshifts from images", "Title of the page.")
    examples: int = what(8, "Galaxies shown with their image and distribution.", ge=0, le=100)
