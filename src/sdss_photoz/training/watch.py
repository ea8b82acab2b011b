"""Scalars of a training for TensorBoard, which shows them while it runs.

`tensorboard --logdir results/<run>/logs/tensorboard` finds those of all trainings of a run.
"""

import struct
import time
from pathlib import Path

from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.summary_pb2 import Summary
from tensorboardX.record_writer import masked_crc32c

from sdss_photoz import files

SHOWN = {  # a column of a training's history: its name in TensorBoard
    "train_loss": "loss/train",
    "validation_loss": "loss/validation",
    "crps": "validation/crps",
    "sigma_mad": "validation/sigma_mad",
    "bias": "validation/bias",
    "learning_rate": "training/learning_rate",
    "galaxies_per_second": "training/galaxies_per_second",
    "share_of_ceiling": "training/share_of_ceiling",  # on a GPU
    "seconds_left": "training/seconds_left",
}


class Scalars:
    """One file of events, begun with the epochs that are done already and continued epoch by epoch.

    A file of an earlier start is replaced, so that a training that was interrupted shows each epoch once. A job that
    is killed while it writes leaves a last record that readers pass over.

    Parameters
    ----------
    folder : str or Path
        Folder of this training alone; made where it is missing.
    history : list of dict
        Rows of the epochs done.
    """

    def __init__(self, folder, history: list[dict]):
        folder = Path(folder)
        old = list(folder.glob("events.out.tfevents.*"))
        self.path = folder / f"events.out.tfevents.{time.time_ns()}"
        begun = Event(wall_time=time.time(), file_version="brain.Event:2")
        with files.whole(self.path) as part:
            part.write_bytes(_record(begun) + b"".join(map(_epoch, history)))
        for path in old:
            path.unlink()

    def add(self, row: dict) -> None:
        """Add an epoch: a row of the history."""
        with open(self.path, "ab") as file:
            file.write(_epoch(row))


def _epoch(row: dict) -> bytes:
    values = [Summary.Value(tag=tag, simple_value=row[key]) for key, tag in SHOWN.items() if key in row]
    return _record(Event(wall_time=row["time"], step=row["epoch"], summary=Summary(value=values)))


def _record(event: Event) -> bytes:
    """An event framed as TensorBoard reads it: length, its checksum, the event, its checksum."""
    data = event.SerializeToString()
    length = struct.pack("<Q", len(data))
    return length + struct.pack("<I", masked_crc32c(length)) + data + struct.pack("<I", masked_crc32c(data))
