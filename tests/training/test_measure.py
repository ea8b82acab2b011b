"""What a network costs is measured after it was tried, and asked for when its jobs are scheduled."""

import json
import subprocess
import sys
import time

import pytest
import torch
from tests.conftest import ROOT
from tests.fixtures.plain_network import Network
from tests.fixtures.quick_training import task
from torch import nn

from sdss_photoz.config import Training, check
from sdss_photoz.errors import UserError
from sdss_photoz.inputs.inputs import Inputs
from sdss_photoz.targets.head import head_of
from sdss_photoz.training.measure import measure, measure_network
from sdss_photoz.training.measured import measurement, measurements, read_cost
from sdss_photoz.training.rehearsal import rehearse
from sdss_photoz.training.resources import (
    COSTS,
    Cost,
    memory_to_predict,
    memory_to_train,
    minutes_to_predict,
    minutes_to_train,
)

PATH = "tests.fixtures.plain_network:Network"
COST = Cost(1e9, 3e8, 0.01, 0.004, 5e6, 10_000_000)


def own(**keys):
    return check({"training": {"network": PATH, "device": "cpu"}, **keys})


class Counted(nn.Module):
    """A network whose cost is known: three products of matrices."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.inner = nn.Linear(inputs.shape[2], 32)
        self.head = nn.Linear(32, outputs)

    def forward(self, images, numbers):
        return self.head(torch.relu(self.inner(images)).mean((1, 2)) + numbers)


class Choosy(Counted):
    """It looks at the values of its images, which fake tensors have none of."""

    def forward(self, images, numbers):
        return super().forward(images if images.sum() > -1e9 else -images, numbers)


@pytest.mark.parametrize("network", ["Counted", "Choosy"])
def test_operations_activations_and_weights_are_those_that_can_be_counted_by_hand(network):
    pixels, outputs = 64 * 64, 180
    settings = Training(network=f"tests.training.test_measure:{network}", device="cpu")
    found = measure(*task(settings))
    forward = 2 * pixels * 5 * 32 + 2 * 32 * outputs
    assert found.prediction_flop == forward
    assert found.training_flop == forward + 2 * pixels * 5 * 32 + 2 * 2 * 32 * outputs  # no gradient of the images
    assert found.weights == 4 * (5 * 32 + 32 + 32 * outputs + outputs)
    # kept for the gradients: images, the output of relu, which is the largest, and the input of the head
    assert found.activations == pytest.approx(4 * (pixels * 5 + 2 * pixels * 32 + 32), rel=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("network", sorted(COSTS))
def test_a_measurement_of_the_librarys_networks_is_near_what_is_known_of_them(network):
    found, known = measure(*task(Training(network=network, device="cpu"))), COSTS[network]
    assert found.training_flop == pytest.approx(known.training_flop, rel=0.02)
    assert found.prediction_flop == pytest.approx(known.prediction_flop, rel=0.02)
    assert found.weights == known.weights
    assert known.activations / 3 < found.activations < known.activations * 1.1
    assert known.training_seconds / 5 < found.training_seconds < known.training_seconds * 5


def test_seconds_are_those_of_a_core(monkeypatch):
    def slow(self, images, numbers):
        end = time.process_time() + 0.02
        while time.process_time() < end:
            pass
        return forward(self, images, numbers)

    forward = Network.forward
    quick = measure(*task(Training(network=PATH, device="cpu")))
    monkeypatch.setattr(Network, "forward", slow)
    found = measure(*task(Training(network=PATH, device="cpu")))
    for kind in ("training_seconds", "prediction_seconds"):
        assert 0 < getattr(quick, kind) < 0.005
        assert getattr(found, kind) > 0.02 / 16


def test_a_network_that_no_training_can_use_is_refused_and_nothing_is_written(tmp_path):
    tasks = [
        task(check({"training": {"network": PATH, "groups": groups}}).training)
        for groups in ({"body": {"rate": 0.5}}, {"boddy": {"rate": 0.5}})
    ]
    measure_network(tasks[:1], tmp_path / "a.json")
    assert json.loads((tmp_path / "a.json").read_text())["outputs"] == 180
    with pytest.raises(UserError, match="names 'boddy'"):
        measure_network(tasks, tmp_path / "b.json")
    assert not (tmp_path / "b.json").exists()


def test_a_measurement_is_shared_by_the_trials_whose_networks_cost_the_same():
    trials = {
        "one": {},
        "other_course": {"training": {"epochs": 3, "groups": {"body": {"frozen": True}}}},
        "options": {"training": {"options": {"width": 5}}},
        "bins": {"target": {"bins": 90}},
        "bands": {"inputs": {"bands": "gri"}},
        "numbers": {"inputs": {"numbers": []}},
        "column": {"target": {"column": "z_spec", "high": 0.5, "kind": "value"}},
        "mixture": {"target": {"method": "mixture"}},
        "crps": {"target": {"method": "mixture", "loss": "crps"}},
        "components": {"target": {"method": "mixture", "components": 4}},
        "librarys": {"training": {"network": "inception"}},
    }
    config = own(trials=trials)
    found = measurements(config)
    shared = ["one", "other_course", "column"], ["mixture", "crps"]
    assert list(found.values()) == [
        shared[0], ["options"], ["bins"], ["bands"], ["numbers"], shared[1], ["components"],
    ]  # fmt: skip
    assert all(name.startswith("tests.fixtures.plain_network.Network-") for name in found)
    assert measurement(config, "one") == config.folder / "training" / "networks" / f"{next(iter(found))}.json"
    assert measurement(config, "librarys") is None
    assert measurements(check({})) == {}


def test_a_measured_cost_is_read_and_one_that_is_missing_or_damaged_is_none(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = own(trials={"images": {}, "librarys": {"training": {"network": "inception"}}})
    assert read_cost(config, "images") is None
    path = measurement(config, "images")
    path.parent.mkdir(parents=True)
    for text in ("", "{}", "[]", '{"cost": {"weights": 1}}', '{"cost": 3}'):
        path.write_text(text)
        assert read_cost(config, "images") is None, text
    path.write_text(json.dumps({"cost": COST._asdict()}))
    assert read_cost(config, "images") == COST
    assert read_cost(config, "librarys") is None


def test_jobs_ask_for_what_a_measured_network_takes():
    settings = own().training
    assert memory_to_train(10_000, settings, cost=COST) < memory_to_train(10_000, settings)
    small, large = (memory_to_train(10_000, settings, cost=COST._replace(activations=a)) for a in (5e6, 25e6))
    assert large - small == pytest.approx(32 * 20, abs=1)
    slow = COST._replace(training_seconds=0.02)
    once, twice = (minutes_to_train(10_000, settings, cost=cost) - 10 for cost in (COST, slow))
    assert twice == pytest.approx(2 * once, abs=2)
    asked = [memory_to_predict(10_000, settings, 2, 3, cost=cost) for cost in (COST, COST._replace(weights=20_000_000))]
    assert asked[1] - asked[0] == pytest.approx(2 * 2 * 10, abs=1)
    slow = COST._replace(prediction_seconds=4.0)
    assert minutes_to_predict(10_000, settings, 2, 3, cost=slow) > 100 * minutes_to_predict(
        10_000, settings, 2, 3, cost=COST
    )


def test_a_measured_cost_is_read_without_torch():
    """Snakemake's head and each of its jobs ask for it."""
    code = (
        "import sys\nfrom sdss_photoz.config import check\nfrom sdss_photoz.training.measured import *\n"
        f"config = check({{'training': {{'network': '{PATH}'}}}})\n"
        "measurements(config), read_cost(config, 'images')\nprint('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("method", ["mixture", "regression"])
def test_a_network_of_any_way_to_predict_is_measured(method):
    config = check({"training": {"network": PATH, "device": "cpu"}, "target": {"method": method}})
    settings, target = config.trial_training("images"), config.trial_target("images")
    found = measure(settings, Inputs(), head_of(target, settings))
    assert min(found) > 0


def test_the_aligned_form_of_outputs_in_float32_is_compared_too(caplog):
    """Or a network whose layers do not follow one another would be found by no rehearsal."""
    caplog.set_level("INFO")
    config = check({"training": {"network": "inception"}, "target": {"method": "mixture"}})
    settings = config.trial_training("images")
    rehearse(settings, Inputs(), head_of(config.trial_target("images"), settings))
    assert "plain form" not in caplog.text
