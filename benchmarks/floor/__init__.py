"""The floor: scores of the best possible redshift estimator from the images of the simulated sky."""
