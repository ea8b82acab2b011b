"""What the scores say in words."""

from sdss_photoz.report.sections.headline import verdict


def test_verdict_says_what_the_difference_says():
    def sentence(value, error):
        scores = {
            "network": {"sigma_mad": {"value": 0.02 + value, "error": error}},
            "local_linear": {"sigma_mad": {"value": 0.02, "error": error}},
        }
        differences = {"network - local_linear": {"sigma_mad": {"value": value, "error": error}}}
        return verdict({"galaxies": 10, "scores": scores, "differences": differences}, "local_linear")

    assert sentence(0.004, 0.001).endswith("the network is worse.")
    assert sentence(-0.004, 0.001).endswith("the network is better.")
    assert sentence(-0.004, 0.003).endswith("the two cannot be told apart.")
    assert sentence(-0.004, None).endswith("so the difference has no error.")
