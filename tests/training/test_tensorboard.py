"""TensorBoard's scalars: a record per epoch, framed as TensorBoard reads it."""

import struct

import google_crc32c
import pytest
from tensorboardX.proto.event_pb2 import Event

from sdss_photoz.training.tensorboard import Scalars

ROW = {
    "train_loss": 4.0,
    "validation_loss": 4.5,
    "crps": 0.01,
    "sigma_mad": 0.02,
    "bias": -0.001,
    "learning_rate": 1e-3,
}
ROW |= {"galaxies_per_second": 700.0, "seconds_left": 60.0}


def _masked(data):
    crc = int.from_bytes(google_crc32c.Checksum(data).digest(), "big")
    return struct.pack("<I", ((crc >> 15 | crc << 17 & 0xFFFFFFFF) + 0xA282EAD8) & 0xFFFFFFFF)


def events(path):
    """The events of a file, their checksums computed by another library."""
    data, found = path.read_bytes(), []
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        event = data[12 : 12 + length]
        assert data[8:12] == _masked(data[:8])
        assert data[12 + length : 16 + length] == _masked(event)
        found.append(Event.FromString(event))
        data = data[16 + length :]
    return found


def _row(epoch):
    return {"epoch": epoch, "time": 1e9 + epoch, **ROW}


def test_each_epoch_is_an_event_with_all_scalars(tmp_path):
    scalars = Scalars(tmp_path / "member-0", [])
    scalars.add(_row(1))
    begun, first = events(scalars.path)
    assert begun.file_version == "brain.Event:2"
    assert (first.step, first.wall_time) == (1, 1e9 + 1)
    assert {value.tag: value.simple_value for value in first.summary.value} == {
        "loss/train": 4.0, "loss/validation": 4.5, "validation/crps": pytest.approx(0.01),
        "validation/sigma_mad": pytest.approx(0.02), "validation/bias": pytest.approx(-0.001),
        "training/learning_rate": pytest.approx(1e-3),
        "training/galaxies_per_second": 700.0, "training/seconds_left": 60.0,
    }  # fmt: skip


def test_a_training_that_goes_on_shows_each_epoch_once(tmp_path):
    killed = Scalars(tmp_path, [])
    for epoch in (1, 2, 3):
        killed.add(_row(epoch))
    resumed = Scalars(tmp_path, [_row(1), _row(2)])
    resumed.add(_row(3))
    assert list(tmp_path.iterdir()) == [resumed.path]
    assert [event.step for event in events(resumed.path)[1:]] == [1, 2, 3]
