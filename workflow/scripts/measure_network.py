"""Try a network of the user's on random galaxies, and measure what its trainings cost."""

from sdss_photoz.config import check
from sdss_photoz.inputs.inputs import Inputs
from sdss_photoz.stage import stage
from sdss_photoz.targets.head import head_of
from sdss_photoz.training.measure import measure_network
from sdss_photoz.training.measured import measurements

with stage(snakemake):
    config = check(snakemake.config)
    tasks = [
        (
            config.trial_training(trial),
            Inputs.of(config.trial_inputs(trial), config.cubes.grid),
            head_of(config.trial_target(trial), config.trial_training(trial)),
        )
        for trial in measurements(config)[snakemake.wildcards.network]
    ]
    measure_network(tasks, snakemake.output.cost)
