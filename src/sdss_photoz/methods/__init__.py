"""Estimators that the networks are compared with, one a file.

Each module has two functions, with which `evaluation.evaluate` trains and tests it on the folds of a trial:

``features(galaxies, quality, fields)``
    Inputs of the method: ndarray (galaxy, feature), rows in the order of ``galaxies`` (the sample,
    indexed by object_id). ``quality`` are the paths of the quality tables of all chunks, ``fields`` that of
    ``archive/fields.parquet`` or None.
``estimate(train, train_z, test, settings)``
    Columns of ``photoz.parquet`` by name, each (test galaxy,): ``z_phot_<method>`` and further columns of the method.
    ``train`` and ``test`` are rows of the features, ``settings`` the run's `config.Evaluation`.
"""

from sdss_photoz.methods import forest, local_linear, prior

METHODS = {"local_linear": local_linear, "prior": prior, "forest": forest}  # in the order of photoz.parquet's columns
