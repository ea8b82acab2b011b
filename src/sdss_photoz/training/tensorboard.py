"""Scalars of a training for TensorBoard: `tensorboard --logdir results/<run>/logs/tensorboard`."""

import time
from pathlib import Path

from tensorboardX import RecordWriter
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.summary_pb2 import Summary

TAGS = {  # column of the history: tag in TensorBoard
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
    """An event file: the epochs that are done when it is opened, then each epoch as it ends.

    It replaces the event files of earlier starts in its folder, so that a resumed training shows each epoch once. A job
    that is killed while it writes leaves an incomplete last record, which TensorBoard skips.

    Parameters
    ----------
    folder : str or Path
        Folder of this training alone; created where it is missing.
    history : list of dict
        Rows of the completed epochs.

    Raises
    ------
    OSError
        Where the file cannot be written.
    """

    def __init__(self, folder: str | Path, history: list[dict]):
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        old = list(folder.glob("events.out.tfevents.*"))
        self.path = folder / f"events.out.tfevents.{time.time_ns()}"
        self.writer = RecordWriter(str(self.path))
        self._write(Event(wall_time=time.time(), file_version="brain.Event:2"), *map(_epoch, history))
        for path in old:
            path.unlink()

    def add(self, row: dict) -> None:
        """Append an epoch, a row of the history, and flush it to the disk; raises as `Scalars` does."""
        self._write(_epoch(row))

    def _write(self, *events: Event) -> None:
        for event in events:
            self.writer.write(event.SerializeToString())
        self.writer.flush()


def _epoch(row: dict) -> Event:
    """The event of a row of the history."""
    values = [Summary.Value(tag=tag, simple_value=row[key]) for key, tag in TAGS.items() if key in row]
    return Event(wall_time=row["time"], step=row["epoch"], summary=Summary(value=values))
