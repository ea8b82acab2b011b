"""Sections of the report: a file each, with its numbers, its figure and its part of the page.

To add one, write a module as `report.section` describes it and name it here.
"""

from sdss_photoz.report.sections import (
    completeness_purity,
    contact_sheet,
    context,
    controls,
    counts,
    cubes,
    examples,
    headline,
    other_scores,
    pit,
    provenance,
    published,
    redshifts,
    reliability,
    residuals,
    roc,
    scores,
    sky,
    training,
    true_predicted,
    value_residuals,
)

OF_TRIALS = {  # kind of target: sections of each such trial, but negative controls
    "redshift": (headline, redshifts, residuals, pit, examples, training),
    "value": (other_scores, true_predicted, value_residuals, pit, examples, training),
    "yes_no": (other_scores, roc, completeness_purity, reliability, training),
}
OF_RUN = {  # heading: sections
    "Negative controls": (controls,),
    "Sample": (counts, published, sky),
    "Cubes": (cubes, contact_sheet, context),
    "How it was made": (provenance, scores),
}
