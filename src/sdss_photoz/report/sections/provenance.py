"""Configuration and package versions that made the run, and the sources of the definitions."""

import platform
from importlib.metadata import PackageNotFoundError, version

import yaml

from sdss_photoz import __version__
from sdss_photoz.config import Block
from sdss_photoz.report.section import Content, Run

PACKAGES = (
    "astropy", "astropy-healpix", "duckdb", "galsim", "h5py", "matplotlib", "numba", "numpy", "pandas", "pyarrow",
    "pydantic", "qp-prob", "reproject", "scipy", "snakemake", "sqlglot", "torch", "zarr",
)  # fmt: skip
TEMPLATE = """\
<details>
<summary>Configuration</summary>
<p>All keys that enter the results, defaults included.</p>
<pre>{{ resolved }}</pre>
</details>
<details>
<summary>Versions</summary>
<table class="narrow">
<tbody>
{% for name, number in versions.items() %}
<tr><th scope="row">{{ name }}</th><td>{{ number }}</td></tr>
{% endfor %}
</tbody>
</table>
</details>
<p class="credit">{% if run.predicts_redshifts %}Scores as in Pasquet et al. 2018 (A&amp;A 621, A26): &Delta;z = \
z<sub>phot</sub> &minus; z<sub>spec</sub>; bias is the mean of &Delta;z/(1+z), &sigma;<sub>MAD</sub> 1.4826 times its \
median absolute deviation; CRPS is in redshift. {% endif %}Local-linear regression as in Beck et al. 2016 (MNRAS 460, \
1371), trained on the same folds, validation galaxies included. Colours: Okabe &amp; Ito; images: Lupton et al. 2004 \
(PASP 116, 133).</p>"""


def content(run: Run) -> Content:
    """The configuration as YAML, and versions by package."""
    resolved = yaml.safe_dump(_what_keys(run.config), sort_keys=False, allow_unicode=True)
    return Content(values={"resolved": resolved, "versions": _versions()})


def _what_keys(block):
    """The keys of a block that enter results, defaults included, as JSON values."""
    if isinstance(block, Block):
        return {key: _what_keys(getattr(block, key)) for key in block.what_keys()}
    if isinstance(block, dict):
        return {key: _what_keys(value) for key, value in block.items()}
    return list(block) if isinstance(block, tuple) else block


def _versions():
    found = {"sdss-photoz": __version__, "Python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue  # an environment of one stage does not hold the others' packages
    return found
