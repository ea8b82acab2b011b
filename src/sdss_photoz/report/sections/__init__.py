"""Sections of the report: a file each, with its numbers, its figure and its part of the page.

To add one, write a module as `report.section` describes it and name it here.
"""

from sdss_photoz.report.sections import (
    contact_sheet,
    context,
    controls,
    counts,
    cubes,
    examples,
    headline,
    pit,
    provenance,
    published,
    redshifts,
    residuals,
    scores,
    sky,
    training,
)

OF_TRIAL = (headline, redshifts, residuals, pit, examples, training)  # of each trial but negative controls
OF_RUN = {  # heading: sections
    "Negative controls": (controls,),
    "Sample": (counts, published, sky),
    "Cubes": (cubes, contact_sheet, context),
    "How it was made": (provenance, scores),
}
