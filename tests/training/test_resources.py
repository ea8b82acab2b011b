"""What a training asks of a scheduler is what it takes, and a little more."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from sdss_photoz.config import Training
from sdss_photoz.training.resources import (
    COSTS,
    DEFAULT_MEMORY,
    MAX_MINUTES,
    count_galaxies,
    memory_to_predict,
    memory_to_train,
    minutes_to_predict,
    minutes_to_train,
)

SAMPLE = 516_525
CARD = Training(network="inception", batch=128, epochs=39, device="cuda")  # the paper's, on a GPU


def with_keys(settings, **keys):
    return settings.model_copy(update=keys)


def test_what_is_asked_is_computed_without_torch():
    """Snakemake's head and each of its jobs read this module, and check the configuration."""
    code = (
        "import sys, sdss_photoz.training.resources\n"
        "from sdss_photoz.config import check\n"
        "check({'training': {'network': 'tests.fixtures.plain_network:Network'}}).sources()\n"
        "print('torch' in sys.modules)"
    )
    words, root = [sys.executable, "-c", code], Path(__file__).parents[2]
    assert subprocess.run(words, cwd=root, capture_output=True, text=True, check=True).stdout.strip() == "False"


def test_memory_is_that_of_the_cubes_where_they_stay():
    small = Training(device="cpu")
    resident, twice = (memory_to_train(n, with_keys(small, residence="device")) for n in (100_000, 200_000))
    assert twice - resident == pytest.approx(100_000 * 81_920 / 1e6, abs=1)
    card, pinned = (memory_to_train(SAMPLE, with_keys(CARD, residence=place)) for place in ("device", "pinned"))
    assert pinned - card == pytest.approx(SAMPLE * 40_960 / 1e6, abs=1)
    streamed = [memory_to_train(n, with_keys(small, residence="streamed")) for n in (50_000, SAMPLE)]
    assert streamed[0] == pytest.approx(streamed[1], rel=0.1)
    auto = [memory_to_train(n, small) for n in (100_000, SAMPLE)]
    assert 0.75 * (auto[0] - 1000) < 100_000 * 81_920 / 1e6 < 0.75 * auto[0], "room for them in three quarters"
    assert auto[1] == streamed[1]


def test_the_papers_training_on_a_card_takes_little_of_the_machine_and_each_attempt_asks_for_more():
    memory, minutes = memory_to_train(SAMPLE, CARD), minutes_to_train(SAMPLE, CARD)
    assert memory < 4500
    assert 60 < minutes < 12 * 60
    assert memory_to_train(SAMPLE, CARD, attempt=2) == 2 * memory
    assert minutes_to_train(SAMPLE, CARD, attempt=2) == 2 * minutes
    assert minutes_to_train(SAMPLE, with_keys(CARD, device="auto")) == MAX_MINUTES
    assert memory_to_predict(SAMPLE, CARD, 6, 5) < 6000


def test_time_grows_with_galaxies_network_and_fewer_threads():
    minutes = {
        (n, threads, network): minutes_to_train(n, Training(network=network, cpu_threads=threads, device="cpu"))
        for n in (3_000, 30_000) for threads in (1, 4) for network in ("inception", "inception_small")
    }  # fmt: skip
    assert 10 < minutes[3_000, 1, "inception_small"] < 20
    assert minutes[30_000, 1, "inception"] > 60 * 12
    assert minutes[30_000, 1, "inception"] > 3.5 * minutes[30_000, 4, "inception"]
    small = Training(device="cpu")
    once, eight = (minutes_to_predict(SAMPLE, with_keys(small, symmetry_averaging=on), 6, 5) for on in (False, True))
    assert eight > 3 * once
    assert minutes_to_predict(SAMPLE, small, 6, 5, passes=8) == eight


def test_a_network_that_was_never_measured_asks_for_as_much_as_the_largest_of_the_librarys():
    own, largest, small = (
        Training(network=name, device="cpu") for name in ("tests.fixtures.plain_network:Network", *COSTS)
    )
    for asks in (memory_to_train, minutes_to_train):
        assert asks(SAMPLE, own) == asks(SAMPLE, largest) > asks(SAMPLE, small)
    for asks in (memory_to_predict, minutes_to_predict):
        assert asks(SAMPLE, own, 6, 5) == asks(SAMPLE, largest, 6, 5)


def test_there_is_an_answer_while_there_is_no_table_of_galaxies(tmp_path):
    (tmp_path / "damaged.parquet").write_bytes(b"PAR1")
    for name in ("none.parquet", "damaged.parquet"):
        assert count_galaxies(tmp_path / name) is None
    assert memory_to_train(None, Training()) == memory_to_predict(None, Training(), 2, 3) == DEFAULT_MEMORY
    assert minutes_to_train(None, Training()) == minutes_to_predict(None, Training(), 2, 3) == MAX_MINUTES


@pytest.mark.slow
def test_a_streamed_training_on_the_papers_sample_stays_within_what_is_asked(tmp_path):
    script = Path(__file__).with_name("memory_of_a_training.py")
    words = [sys.executable, script, tmp_path, "inception_small", 32, SAMPLE]
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    asked = memory_to_train(SAMPLE, Training(device="cpu", residence="streamed"))
    print(f"{found['peak'] / 1e6:,.0f} MB, of which {found['libraries'] / 1e6:,.0f} are libraries; {asked:,} are asked")
    assert not found["compiler"], "it would take two seconds of each job on a CPU"
    assert 0.6 * asked < found["peak"] / 1e6 < asked
