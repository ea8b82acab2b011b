"""Wherever the cubes stay, an epoch visits each galaxy once, and a batch follows from seed, fold, member and step."""

import threading
import types
from itertools import pairwise

import numpy as np
import pytest
import torch

from sdss_photoz.inputs.inputs import Inputs
from sdss_photoz.scores.grid import Grid
from sdss_photoz.surveys import CUBE
from sdss_photoz.targets.classes import Classes
from sdss_photoz.targets.label import Label
from sdss_photoz.training.data import residence
from sdss_photoz.training.data.examples import Catalogue
from sdss_photoz.training.data.order import GROUP_CHUNKS, Sequence, streamed_permutation
from sdss_photoz.training.data.residence import Pinned, Resident, Streamed

CPU = torch.device("cpu")
CHUNK, SHARD, ROWS = 2, 4, 400  # 200 chunks in 100 shards
BATCH = 16


@pytest.fixture(scope="module")
def cubes():
    """Cubes of 400 rows, float16."""
    return np.random.default_rng(0).standard_normal((ROWS, CUBE.size**2, 5), np.float32).astype(np.float16)


@pytest.fixture(scope="module")
def file(cubes, tmp_path_factory):
    """The same in a file, after a header of 64 bytes."""
    path = tmp_path_factory.mktemp("copy") / "cubes"
    path.write_bytes(b"x" * 64 + cubes.tobytes())
    return path


@pytest.fixture
def rows():
    """Rows of the 360 galaxies of a training: each tenth row has another role."""
    return np.flatnonzero(np.arange(ROWS) % 10 != 3)


def _examples(cubes, rows):
    count = len(rows)
    numbers, head = np.linspace(0, 0.1, count, dtype=np.float32)[:, None], Classes(Label(grid=Grid(0, count, count)))
    catalogue = Catalogue(rows, np.arange(count) + 0.5, numbers, Inputs(), head)
    return catalogue.examples(cubes, False, "", CPU)


def _batches(cubes, rows, first=0, last=60):
    sequence = Sequence(len(rows), BATCH, 1, 0, 0, chunks=cubes.chunks)
    examples = _examples(cubes, rows)
    return [[part.clone() for part in examples.read(*inputs)] for inputs in examples.batches(sequence, first, last)]


def _same(ours, theirs):
    return len(ours) == len(theirs) and all(
        torch.equal(a, b) for one, other in zip(ours, theirs, strict=True) for a, b in zip(one, other, strict=True)
    )


def test_batches_from_pinned_memory_are_those_of_resident_cubes_bit_for_bit(cubes, rows):
    resident = _batches(Resident(torch.from_numpy(cubes[rows])), rows)
    assert _same(_batches(Pinned(torch.from_numpy(cubes), rows, CPU), rows), resident)


def test_streamed_batches_hold_the_cubes_of_the_galaxies_that_the_sequence_names(cubes, rows, file):
    streamed = Streamed(file, 64, rows, CHUNK, SHARD, CPU)
    sequence = Sequence(len(rows), BATCH, 1, 0, 0, chunks=streamed.chunks)
    resident, examples = _examples(Resident(torch.from_numpy(cubes[rows])), rows), _examples(streamed, rows)
    for step, inputs in enumerate(examples.batches(sequence, 0, 60)):
        expected = resident.batch(*map(torch.from_numpy, sequence.batch(step)))
        assert all(torch.equal(a, b) for a, b in zip(examples.read(*inputs), expected, strict=True))


@pytest.mark.parametrize("mode", ["device", "pinned", "streamed"])
def test_a_training_that_goes_on_meets_the_batches_that_it_would_have_met(cubes, rows, file, mode):
    made = {
        "device": lambda: Resident(torch.from_numpy(cubes[rows])),
        "pinned": lambda: Pinned(torch.from_numpy(cubes), rows, CPU),
        "streamed": lambda: Streamed(file, 64, rows, CHUNK, SHARD, CPU),
    }[mode]
    undisturbed = _batches(made(), rows)
    for first in (1, 22, 23, 41, 59):  # an epoch ends within step 22
        assert _same(_batches(made(), rows, first), undisturbed[first:])


@pytest.mark.parametrize("mode", ["device", "pinned", "streamed"])
def test_an_epoch_visits_each_galaxy_once(cubes, rows, file, mode):
    made = {
        "device": Resident(torch.from_numpy(cubes[rows])),
        "pinned": Pinned(torch.from_numpy(cubes), rows, CPU),
        "streamed": Streamed(file, 64, rows, CHUNK, SHARD, CPU),
    }[mode]
    labels = torch.cat([batch[2] for batch in _batches(made, rows, 0, 90)])  # a galaxy's label is its number here
    for epoch in range(4):
        assert sorted(labels[360 * epoch : 360 * (epoch + 1)].tolist()) == list(range(360))


def test_galaxies_that_are_validated_are_read_in_any_order(cubes, rows, file):
    chosen = torch.tensor([300, 2, 2, 77])
    for made in (Pinned(torch.from_numpy(cubes), rows, CPU), Streamed(file, 64, rows, CHUNK, SHARD, CPU)):
        table, places = made.take(chosen)
        assert torch.equal(table[places], torch.from_numpy(cubes[rows[chosen.numpy()]]))


def test_the_galaxies_of_a_streamed_batch_come_from_many_shards():
    """The sample of the paper: 516,525 galaxies in chunks of 128, here in 500 shards of one place on the sky each."""
    row = np.arange(516_525)[np.random.default_rng(0).random(516_525) < 0.8]
    chunk, shard = row // 128, row // 1152
    order, bounds = streamed_permutation(1, 0, 0, 0, chunk, shard)
    assert (np.sort(order) == np.arange(len(row))).all()
    for begin, end in pairwise(bounds[:-1]):  # the last rounds of shards may have fewer
        together = np.unique(chunk[order[begin:end]])
        assert len(together) >= GROUP_CHUNKS
        assert len(np.unique(together * 128 // 1152)) >= 0.8 * len(together)
    shards = [len(np.unique(shard[order[start : start + 128]])) for start in range(0, len(order), 128 * 50)]
    shuffled = [len(np.unique(np.random.default_rng(start).integers(0, GROUP_CHUNKS, 128))) for start in range(80)]
    print(
        f"shards in a batch of 128: at least {min(shards)}, in the median {np.median(shards)}, of {GROUP_CHUNKS} chunks"
    )
    assert np.median(shards) >= 0.9 * np.median(shuffled)
    assert min(shards) >= 40


def test_all_shards_give_to_a_group_where_they_are_fewer_than_its_chunks():
    row = np.arange(40_000)
    order, bounds = streamed_permutation(1, 0, 0, 0, row // 128, row // 10_112)
    for begin, end in pairwise(bounds[:-1]):
        counts = np.bincount(row[order[begin:end]] // 10_112)
        assert len(counts) == 4
        assert counts.min() > 0.5 * counts.max()


def test_the_streamed_order_follows_from_seed_fold_member_and_epoch():
    row = np.arange(20_000)
    keys = [(1, 0, 0, 0), (2, 0, 0, 0), (1, 1, 0, 0), (1, 0, 1, 0), (1, 0, 0, 1)]
    orders = {streamed_permutation(*key, row // 128, row // 1280)[0].tobytes() for key in (*keys, *keys)}
    assert len(orders) == len(keys)


def test_at_most_two_groups_of_chunks_are_in_memory(cubes, rows, file, monkeypatch):
    """200 chunks make three groups an epoch; five epochs read fifteen, into the same memory by turns."""
    into, read = [], Streamed._read_chunks

    def noted(self, chunks, counts, memory):
        into.append((memory.ctypes.data, memory.nbytes))
        read(self, chunks, counts, memory)

    monkeypatch.setattr(Streamed, "_read_chunks", noted)
    streamed = Streamed(file, 64, rows, CHUNK, SHARD, CPU)
    sequence = Sequence(len(rows), BATCH, 1, 0, 0, chunks=streamed.chunks)
    for _ in streamed.batches(sequence, 0, 112):
        pass
    assert len(into) == 15
    assert len(set(into)) <= 2 + 2, "memory grows to the largest group, once for each of the two"
    assert max(size for _, size in into) <= 67 * CHUNK * CUBE.size**2 * 5 * 2


@pytest.mark.parametrize("batch", [7, 100, 290])
def test_batches_larger_than_a_group_and_galaxies_in_any_order_give_the_right_cubes(cubes, rows, file, batch):
    rows = np.random.default_rng(0).permutation(rows)
    streamed = Streamed(file, 64, rows, CHUNK, SHARD, CPU)
    sequence = Sequence(len(rows), batch, 1, 0, 0, chunks=streamed.chunks)
    for galaxies, _, table, places in streamed.batches(sequence, 0, 900 // batch):
        assert torch.equal(table[places], torch.from_numpy(cubes[rows[galaxies]]))


def test_a_copy_that_ends_too_early_is_an_error_not_a_wrong_cube(rows, tmp_path):
    (tmp_path / "cubes").write_bytes(b"x" * 1000)
    with pytest.raises(OSError, match="ends before row"):
        _batches(Streamed(tmp_path / "cubes", 64, rows, CHUNK, SHARD, CPU), rows)


def test_the_thread_that_works_ahead_is_prepared_before_its_first_item():
    prepared = []
    items = residence.prefetch(
        (threading.get_ident() for _ in range(3)), lambda: prepared.append(threading.get_ident())
    )
    assert list(items) == prepared * 3
    assert prepared != [threading.get_ident()]


class _FakeCuda:
    """Streams and events that write down what is asked of them, in order."""

    def __init__(self):
        self.log = []

    def Stream(self, device):
        return self

    def Event(self):
        return _FakeEvent(self.log)

    def stream(self, stream):
        return self

    def current_stream(self, device):
        return "compute"

    def wait_event(self, event):
        self.log.append(("copy waits", event.number))

    def synchronize(self):
        self.log.append(("copies done", None))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return False


class _FakeEvent:
    count = 0

    def __init__(self, log):
        self.log, self.number = log, _FakeEvent.count
        _FakeEvent.count += 1

    def record(self, stream="copy"):
        self.log.append((f"recorded on {stream}", self.number))

    def synchronize(self):
        self.log.append(("host waits", self.number))


def test_a_buffer_is_copied_to_only_when_the_device_is_done_with_it_and_filled_when_its_copy_is(monkeypatch):
    cuda = _FakeCuda()
    fake = types.SimpleNamespace(
        empty=lambda shape, dtype, pin_memory=False, device=None: torch.zeros(shape, dtype=dtype),
        index_select=torch.index_select,
        cuda=cuda,
    )
    monkeypatch.setattr(residence, "torch", fake)
    buffer = residence._Buffer((2, CUBE.size**2, 5), torch.float16, "card", cuda)
    copied, used = buffer.copied.number, buffer.used.number
    cubes = torch.ones(3, CUBE.size**2, 5, dtype=torch.float16)
    parts = [(cubes, torch.tensor([0])), (2 * cubes, torch.tensor([1]))]
    buffer.fill(parts)
    assert buffer.table[:, 0, 0].tolist() == [1, 2]
    buffer.release()
    buffer.fill(parts)
    fill = [("host waits", copied), ("copy waits", used), ("recorded on copy", copied)]
    assert cuda.log == [*fill, ("recorded on compute", used), *fill]
