"""Pure arrays: redshift grid, distributions, residuals, metrics."""
