"""The configuration: one model per block, checked before anything is built.

Every key is either *what* (it enters the results, so it is passed to the rules as a parameter and a change of it reruns
the stages that use it) or *how* (places, speed, devices: a change of it reruns nothing).
"""

from sdss_photoz.config.archive import Archive
from sdss_photoz.config.block import Block
from sdss_photoz.config.cubes import Cubes
from sdss_photoz.config.embedded import Embedded
from sdss_photoz.config.evaluation import Evaluation
from sdss_photoz.config.frames import Frames
from sdss_photoz.config.groups import Group, holds
from sdss_photoz.config.inputs import Inputs
from sdss_photoz.config.read import load, read_yaml, with_types
from sdss_photoz.config.region import Region
from sdss_photoz.config.report import Report
from sdss_photoz.config.run import SAS, Config, check
from sdss_photoz.config.sample import Sample
from sdss_photoz.config.target import Target
from sdss_photoz.config.training import AT_PREDICTION, Training
from sdss_photoz.config.trial import Folds, Trial

__all__ = [
    "AT_PREDICTION",
    "SAS",
    "Archive",
    "Block",
    "Config",
    "Cubes",
    "Embedded",
    "Evaluation",
    "Folds",
    "Frames",
    "Group",
    "Inputs",
    "Region",
    "Report",
    "Sample",
    "Target",
    "Training",
    "Trial",
    "check",
    "holds",
    "load",
    "read_yaml",
    "with_types",
]
