"""Train one member of an ensemble, from its checkpoint where there is one."""

import logging
import math
import signal
import time
from collections.abc import Callable
from contextlib import closing, contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from sdss_photoz import files, training
from sdss_photoz.config import AT_PREDICTION, Training
from sdss_photoz.device import compute_dtype, cpu_threads, numerics, on_gpu
from sdss_photoz.errors import UserError
from sdss_photoz.inputs.augmentation import Augmentation
from sdss_photoz.networks import build, variant
from sdss_photoz.progress import progress
from sdss_photoz.training.checkpoint import Checkpoints, State
from sdss_photoz.training.data.examples import Examples
from sdss_photoz.training.data.order import Sequence, random_words, strata_of
from sdss_photoz.training.fast.ceiling import flop_per_galaxy, matmul_ceiling
from sdss_photoz.training.fast.cuda_graph import WARM_UP, CapturedStep, Compiler, first_line, make_graph
from sdss_photoz.training.model import Trained, architecture, recorded, save_model
from sdss_photoz.training.step import NO_STEP, Trainer, learning_rate, train_step
from sdss_photoz.training.validation import learn_head, learn_point, validate

CHECK_EVERY = 100  # steps between checks that the loss is finite: each synchronises with the GPU
LATER = {"options", "weight_decay"}  # keys that are none of a training at their defaults: they came later
HISTORY = ["epoch", "train_loss", "validation_loss", "learning_rate"]  # the columns that are written to the file

_log = logging.getLogger(__name__)


def train_member(
    train: Examples,
    validation: Examples,
    settings: Training,
    trial: str,
    fold: int,
    member: int,
    model_path: str | Path,
    history_path: str | Path,
    checkpoint_folder: str | Path,
    open_scalars: Callable | None = None,
) -> pd.DataFrame:
    """Train a network and write the weights of the epoch with the lowest validation loss, and the history.

    On a CPU the same arguments give the same bytes, also if the training was killed and resumed.

    Parameters
    ----------
    train, validation : Examples
        Galaxies, on the device of the training.
    settings : config.Training
        The configuration's block `training`.
    trial : str
        Name of the trial, for the model file and for messages.
    fold, member : int
        Seeds, with `settings.seed`, of the order, symmetries and initial weights.
    model_path, history_path : str or Path
        Outputs: safetensors and csv.
    checkpoint_folder : str or Path
        Folder of the checkpoints; removed at the end.
    open_scalars : callable, optional
        Function of the rows of the completed epochs that returns an object whose ``add`` takes each further row,
        such as `tensorboard.Scalars`.

    Returns
    -------
    DataFrame
        The history: epoch, train_loss, validation_loss, learning_rate, best (True in one row).

    Raises
    ------
    UserError
        If there are too few galaxies, or the loss is not finite.
    """
    trained = Trained(trial, fold, member)
    label = f"{trial}, fold {fold}, member {member}"
    check_counts(len(train), len(validation), settings, label)
    run, point = _Run(train, validation, settings, fold, member, checkpoint_folder, label, open_scalars), {}
    head = train.head
    with (
        cpu_threads(settings.cpu_threads),
        numerics(run.device, run.compute_dtype, settings.deterministic),
        _stop_on_sigterm() as stop,
    ):
        run.go(stop)
        if settings.regressed_point or head.learns:
            run.network.load_state_dict(run.best)
        head = learn_head(run.network, validation) if head.learns else head
        if settings.regressed_point:
            point["point"] = learn_point(run.network, validation).round(8).tolist()
    history = pd.DataFrame(run.state.history)[HISTORY]
    history["best"] = history.index == history["validation_loss"].idxmin()
    best = history[history["best"]].iloc[0]
    prior = head.prior(train.labels.cpu().numpy())
    if best["validation_loss"] > prior - head.margin:
        _log.warning(
            "%s: the validation loss, %.4g, is not %.2g below the %s, %.4g: the network has hardly "
            "learned; train for more epochs or change training.learning_rate",
            label,
            best["validation_loss"],
            head.margin,
            head.prior_name,
            prior,
        )
    description = {
        **architecture(settings, train.inputs, head),
        **trained._asdict(),
        **{"epoch": int(best["epoch"]), "version": training.VERSION},
        **({"scaling": train.inputs.scaling} if train.inputs.scaling else {}),
        **({"fitted": state} if (state := head.state()) else {}),
        **point,
    }
    files.write_csv(history_path, history)
    save_model(model_path, run.best, description)
    run.checkpoints.remove()
    return history


def check_counts(train: int, validation: int, settings: Training, label: str) -> None:
    """Refuse a training without validation galaxies, or with fewer training galaxies than a batch."""
    if validation == 0:
        raise UserError(f"{label} has no validation galaxies: raise folds.validation_fraction or the sample.")
    if train < settings.batch:
        remedy = f"lower training.batch to at most {train}" if train else "widen the sample or its training part"
        raise UserError(
            f"{label} has {train} training galaxies, fewer than training.batch, {settings.batch}: {remedy}."
        )


@contextmanager
def _stop_on_sigterm():
    """Yield a function that tells whether SIGTERM, a scheduler's warning, was received within the block."""
    received = []
    try:
        before = signal.signal(signal.SIGTERM, lambda *_: received.append(True))
    except ValueError:  # not in the main thread
        yield lambda: False
        return
    try:
        yield lambda: bool(received)
    finally:
        signal.signal(signal.SIGTERM, before)


class _Run:
    """A training in progress."""

    def __init__(self, train, validation, settings, fold, member, checkpoint_folder, label, open_scalars=None):
        self.train, self.validation, self.settings, self.label = train, validation, settings, label
        self.open_scalars = open_scalars
        self.device = train.device
        self.compute_dtype = compute_dtype(self.device, settings.precision)
        augmentation = train.inputs.augmentation
        digest = files.digest(
            [
                {
                    key: getattr(settings, key)
                    for key in settings.what_keys()
                    if key not in {"groups", *AT_PREDICTION} and (key not in LATER or getattr(settings, key))
                }
                | ({"groups": settings.params()["groups"]} if settings.groups else {})
                | {"optimizer": "adam"}  # a key until it was removed: checkpoints of that time are resumed
                | recorded(settings, train.inputs, train.head)
                | ({} if augmentation == Augmentation(settings.augment) else {"augmentation": asdict(augmentation)}),
                {"fold": fold, "member": member, "train": train.digest, "validation": validation.digest},
                [training.VERSION, torch.__version__, self.device.type, str(self.compute_dtype)],
            ]
        )
        self.checkpoints = Checkpoints(checkpoint_folder, digest)
        seed = int(random_words(settings.seed, fold, member, 0, 2, count=1)[0] >> np.uint64(1))
        choices = variant(settings), train.inputs, settings.options, train.head.ordered
        network = build(settings.network, train.head.outputs, settings.initialisation, seed, *choices)
        self.network = network.to(self.device, memory_format=torch.channels_last)
        self.sequence = Sequence(
            len(train), settings.batch, settings.seed, fold, member, augmentation.symmetries, train.cubes.chunks,
            strata=strata_of(train.values, train.head.label.grid) if settings.sampling == "balanced" else None,
            words=augmentation.words,
        )  # fmt: skip
        self.steps = self.sequence.steps(settings.epochs)
        self.compiler = Compiler(on_gpu(self.device))
        self.trainer = Trainer(
            self.network, settings, train.head, self.steps, self.compute_dtype, compiler=self.compiler
        )
        self.read = self.compiler(
            partial(
                train.read,
                augment=augmentation.symmetries,
                channels=self.trainer.channels,
                dtype=self.trainer.image_dtype,
            )
        )
        self.captured_step = CapturedStep(self._train_step, make_graph(self.device), self.compiler, label)
        self.loss_sum = torch.zeros((), dtype=torch.float64, device=self.device)
        self.best = {}
        self.state = State()
        self.scalars, self.ceiling = None, None

    def go(self, stop) -> None:
        """Run the remaining steps; `stop` tells whether to save a checkpoint and exit."""
        self._resume()
        if self.open_scalars:
            with self._optional("TensorBoard's scalars"):
                self.scalars = self.open_scalars(self.state.history)
        with self._optional("the share of the GPU's ceiling"):
            self.ceiling = self._galaxies_per_second_at_the_ceiling()
        self._start_clock()
        saved, interval = time.monotonic(), 60 * self.settings.checkpoint_minutes  # 0: at the end of each epoch
        bar = progress(
            total=self.settings.epochs * len(self.train),
            initial=min(self.state.step * self.settings.batch, self.settings.epochs * len(self.train)),
            unit="galaxy",
            label=self.label,
        )
        with bar, closing(self.train.batches(self.sequence, self.state.step, self.steps)) as batches:
            while self.state.step < self.steps:
                self._step(*next(batches))
                if self.captured_step.taken == WARM_UP + 1:
                    self._start_clock()
                bar.update(min(self.settings.batch, bar.total - bar.n))
                ended = self.state.step >= self.sequence.steps(self.state.epoch + 1)
                if ended:
                    self._end_epoch()
                    row = self.state.history[-1]
                    bar.set_postfix(
                        epoch=row["epoch"], loss=row["train_loss"], validation=row["validation_loss"], refresh=False
                    )
                if (ended or interval) and time.monotonic() - saved >= interval:
                    self._save()
                    saved = time.monotonic()
                if stop():
                    self._save()
                    _log.warning("%s: stopped by SIGTERM, a rerun goes on after step %d", self.label, self.state.step)
                    raise SystemExit(128 + signal.SIGTERM)

    def _start_clock(self) -> None:
        """Measure the speed from this step on: again after a GPU has compiled and captured the step."""
        self._check_loss()
        self.first, self.begun = self.state.step, time.monotonic()
        self.counted = self.first, self.begun

    def _train_step(self, *inputs: Tensor) -> None:
        """Take a step without reading a value back from the device."""
        self.loss_sum += train_step(self.trainer, self.read(*inputs))

    def _step(self, *inputs: Tensor) -> None:
        self.captured_step(self.device, *inputs)
        self.state.step += 1
        if self.state.step % CHECK_EVERY == 0:
            self._check_loss()

    def _check_loss(self) -> None:
        """Raise a `UserError` if the loss of a step was not finite."""
        step = self.trainer.failed.item()
        if step != NO_STEP:
            self._refuse("loss", step)

    def _refuse(self, what: str, step: int) -> None:
        """Raise a `UserError` that names the galaxies of a step (0-based) after which a loss is not finite."""
        galaxies = self.train.object_id[self.sequence.batch(step)[0]]
        raise UserError(
            f"{self.label}: the {what} is not a number in epoch {self.state.epoch + 1}, step {step + 1}, of the "
            f"galaxies with object_id {', '.join(map(str, galaxies))}: lower training.learning_rate "
            f"({self.settings.learning_rate:g}), change training.stretch ({self.train.inputs.stretch}), or look at "
            "their cubes."
        )

    def _end_epoch(self) -> None:
        self._check_loss()
        epoch, step = self.state.epoch, self.state.step
        speed = self._galaxies_per_second()
        scores = validate(self.trainer.trained_network(), self.validation)
        loss = scores["validation_loss"]
        if not math.isfinite(loss):
            self._refuse("validation loss", step - 1)
        if scores.get("at_floor", 0) > 0.5:
            raise UserError(
                f"{self.label}: more than half of the mixture's weight is in components of the least width at the end "
                f"of epoch {epoch + 1}, so that distributions have collapsed onto single values: lower "
                "target.components, set target.loss to crps, or give a target.column whose values do not repeat."
            )
        if not self.state.history or loss < min(row["validation_loss"] for row in self.state.history):
            self.best = {name: value.detach().clone() for name, value in self.network.state_dict().items()}
        steps = step - (self.sequence.steps(epoch) if epoch else 0)
        seconds_a_step = (time.monotonic() - self.begun) / max(step - self.first, 1)
        row = {
            "epoch": epoch + 1,
            "train_loss": self.loss_sum.item() / max(steps, 1) * self.train.head.unit,
            **scores,
            "learning_rate": learning_rate(self.settings, torch.tensor(step - 1), self.steps).item(),
            "galaxies_per_second": speed,
            "seconds_left": seconds_a_step * (self.steps - step),
            "time": time.time(),
        }
        if self.ceiling:
            row["share_of_ceiling"] = speed / self.ceiling
        self.state.history.append(row)
        if self.scalars:
            scalars, self.scalars = self.scalars, None  # dropped for good if it fails: a record may be incomplete
            with self._optional("TensorBoard's scalars"):
                scalars.add(row)
                self.scalars = scalars
        self.loss_sum.zero_()
        self.state.epoch += 1
        self.counted = step, time.monotonic()

    @contextmanager
    def _optional(self, what: str):
        """Log an exception of the block and go on: monitoring must not end a training."""
        try:
            yield
        except Exception as error:  # of any type: from a driver, a library, a full memory or disk
            _log.warning("%s: goes on without %s (%s)", self.label, what, first_line(error))

    def _galaxies_per_second(self) -> float:
        """Training galaxies per second since the end of the last epoch, without validation."""
        step, since = self.counted
        return (self.state.step - step) * self.settings.batch / max(time.monotonic() - since, 1e-9)

    def _galaxies_per_second_at_the_ceiling(self) -> float | None:
        """Training galaxies per second at the speed of large matrix products on a GPU; None on a CPU."""
        if not on_gpu(self.device):
            return None
        flop = flop_per_galaxy(self.network, self.train.inputs.shape, len(self.train.inputs.numbers))
        return matmul_ceiling(self.device, self.compute_dtype) / flop

    def _save(self) -> None:
        self._check_loss()
        best = {f"best/{name}": value for name, value in self.best.items()}
        self.state.tensors = {**self.trainer.tensors(), **best, "loss_sum": self.loss_sum}
        self.checkpoints.save(self.state)

    def _resume(self) -> None:
        state = self.checkpoints.load()
        if state is None:
            return
        _log.info("%s: going on after step %d of %d", self.label, state.step, self.steps)
        self.trainer.load(state.tensors, state.step)
        self.loss_sum.copy_(state.tensors["loss_sum"])
        kept = {name.removeprefix("best/"): value for name, value in state.tensors.items() if name.startswith("best/")}
        self.best = {name: value.to(self.device) for name, value in kept.items()}
        self.state = State({}, state.step, state.epoch, state.history)
