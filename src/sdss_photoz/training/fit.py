"""Train one member of an ensemble, whatever interrupts it."""

import math
import signal
import sys
import time
from collections.abc import Callable
from contextlib import closing, contextmanager
from functools import partial

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from sdss_photoz import files, training
from sdss_photoz.config import AT_PREDICTION, Training
from sdss_photoz.errors import UserError
from sdss_photoz.progress import progress
from sdss_photoz.training.ceiling import flop_of_a_galaxy, matrix_ceiling
from sdss_photoz.training.checkpoint import Checkpoints, State
from sdss_photoz.training.device import arithmetic, cpu_threads, numerics, on_gpu
from sdss_photoz.training.examples import Examples, entropy
from sdss_photoz.training.model import Trained, architecture, save_model
from sdss_photoz.training.networks import build, variant
from sdss_photoz.training.order import Sequence, random_words, redshift_strata
from sdss_photoz.training.replay import WARM_UP, Compiler, Replay, first_line, recorder
from sdss_photoz.training.step import NONE, Descent, learning_rate, train_step
from sdss_photoz.training.validation import learn_point, validate

LOOK_EVERY = 100  # steps between looks at the loss: each makes a GPU wait
HISTORY = ["epoch", "train_loss", "validation_loss", "learning_rate"]  # the rest of a row is to be watched
LEARNED = 0.5  # nat below the entropy of the redshifts: less, and the network has not left the prior


def train_member(
    train: Examples,
    validation: Examples,
    settings: Training,
    trial: str,
    fold: int,
    member: int,
    model_path,
    history_path,
    checkpoint_folder,
    watch: Callable | None = None,
) -> pd.DataFrame:
    """Train a network; write the weights of its best epoch, by validation loss, and its history.

    The same arguments give the same bytes on a CPU, also when the training was killed and started again.

    Parameters
    ----------
    train, validation : Examples
        Galaxies on the device where the training is to run.
    settings : config.Training
        The block of the configuration.
    trial : str
        Name of the trial, for the model file and for messages.
    fold, member : int
        What order, symmetries and initial weights follow from, with `settings.seed`.
    model_path, history_path : str or Path
        Outputs: safetensors and csv.
    checkpoint_folder : str or Path
        Where to keep checkpoints; removed in the end.
    watch : callable, optional
        Given the rows of the epochs done, it returns an object whose ``add`` takes each new row (`watch.Scalars`).

    Returns
    -------
    DataFrame
        The history: epoch, train_loss, validation_loss, learning_rate, best (True in one row).

    Raises
    ------
    UserError
        Where there are too few galaxies, or the loss is no longer a number.
    """
    of = Trained(trial, fold, member)
    label = f"{trial}, fold {fold}, member {member}"
    check_counts(len(train), len(validation), settings, label)
    run, point = _Run(train, validation, settings, fold, member, checkpoint_folder, label, watch), {}
    with (
        cpu_threads(settings.cpu_threads),
        numerics(run.device, run.arithmetic, settings.deterministic),
        _stop_on_sigterm() as stop,
    ):
        run.go(stop)
        if settings.regressed_point:
            run.network.load_state_dict(run.best)
            point["point"] = learn_point(run.network, validation).round(8).tolist()
    history = pd.DataFrame(run.state.history)[HISTORY]
    history["best"] = history.index == history["validation_loss"].idxmin()
    best = history[history["best"]].iloc[0]
    prior = entropy(train.labels.cpu().numpy())
    if best["validation_loss"] > prior - LEARNED:
        print(
            f"{label}: the validation loss, {best['validation_loss']:.3f}, is not {LEARNED} below the entropy of the "
            f"redshifts, {prior:.3f}: the network has hardly learned; train for more epochs or change "
            "training.learning_rate",
            file=sys.stderr,
        )
    description = {
        **architecture(settings),
        **of._asdict(),
        **{"epoch": int(best["epoch"]), "version": training.VERSION},
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
    """Turn SIGTERM, a scheduler's notice, into a flag: yield a function that tells whether it came."""
    came = []
    try:
        before = signal.signal(signal.SIGTERM, lambda *_: came.append(True))
    except ValueError:  # signals reach the main thread alone
        yield lambda: False
        return
    try:
        yield lambda: bool(came)
    finally:
        signal.signal(signal.SIGTERM, before)


class _Run:
    """A training under way."""

    def __init__(self, train, validation, settings, fold, member, checkpoint_folder, label, watch=None):
        self.train, self.validation, self.settings, self.label, self.watch = train, validation, settings, label, watch
        self.device = train.device
        self.arithmetic = arithmetic(self.device, settings.precision)
        digest = files.digest(
            [
                {key: getattr(settings, key) for key in settings.what_keys() if key not in AT_PREDICTION},
                {"fold": fold, "member": member, "train": train.digest, "validation": validation.digest},
                [training.VERSION, torch.__version__, self.device.type, str(self.arithmetic)],
            ]
        )
        self.checkpoints = Checkpoints(checkpoint_folder, digest)
        seed = int(random_words(settings.seed, fold, member, 0, 2, count=1)[0] >> np.uint64(1))
        network = build(settings.network, settings.bins, settings.initialisation, seed, variant(settings))
        self.network = network.to(self.device, memory_format=torch.channels_last)
        self.sequence = Sequence(
            len(train), settings.batch, settings.seed, fold, member, settings.augment, train.cubes.chunks,
            strata=redshift_strata(train.z) if settings.sampling == "balanced" else None,
        )  # fmt: skip
        self.steps = self.sequence.steps(settings.epochs)
        self.compiler = Compiler(on_gpu(self.device))
        self.descent = Descent(self.network, settings, self.steps, self.arithmetic, compiler=self.compiler)
        self.read = self.compiler(
            partial(train.read, augment=settings.augment, bands=self.descent.bands, dtype=self.descent.dtype)
        )
        self.replay = Replay(self._take, recorder(self.device), self.compiler, label)
        self.loss_sum = torch.zeros((), dtype=torch.float64, device=self.device)
        self.best = {}
        self.state = State()
        self.scalars, self.best_speed = None, None

    def go(self, stop) -> None:
        """Run all steps that are not done yet."""
        self._resume()
        if self.watch:
            with self._even_without("TensorBoard's scalars"):
                self.scalars = self.watch(self.state.history)
        with self._even_without("the share of the GPU's ceiling"):
            self.best_speed = self._galaxies_per_second_at_the_ceiling()
        self._start_clock()
        saved, every = time.monotonic(), 60 * self.settings.checkpoint_minutes  # 0: at the end of each epoch
        bar = progress(
            total=self.settings.epochs * len(self.train),
            initial=min(self.state.step * self.settings.batch, self.settings.epochs * len(self.train)),
            unit="galaxy",
            label=self.label,
        )
        with bar, closing(self.train.inputs(self.sequence, self.state.step, self.steps)) as inputs:
            while self.state.step < self.steps:
                self._step(*next(inputs))
                if self.replay.taken == WARM_UP + 1:
                    self._start_clock()
                bar.update(min(self.settings.batch, bar.total - bar.n))
                ended = self.state.step >= self.sequence.steps(self.state.epoch + 1)
                if ended:
                    self._end_epoch()
                    row = self.state.history[-1]
                    bar.set_postfix(
                        epoch=row["epoch"], loss=row["train_loss"], validation=row["validation_loss"], refresh=False
                    )
                if (ended or every) and time.monotonic() - saved >= every:
                    self._save()
                    saved = time.monotonic()
                if stop():
                    self._save()
                    print(
                        f"{self.label}: stopped by SIGTERM, a rerun goes on after step {self.state.step}",
                        file=sys.stderr,
                    )
                    raise SystemExit(128 + signal.SIGTERM)

    def _start_clock(self) -> None:
        """Count the speed from here: once more when a GPU has compiled and recorded, which is done once."""
        self._look()
        self.first, self.begun = self.state.step, time.monotonic()
        self.counted = self.first, self.begun

    def _take(self, *inputs: Tensor) -> None:
        """Take a step, all of it on the device."""
        self.loss_sum += train_step(self.descent, self.read(*inputs))

    def _step(self, *inputs: Tensor) -> None:
        self.replay(self.device, *inputs)
        self.state.step += 1
        if self.state.step % LOOK_EVERY == 0:
            self._look()

    def _look(self) -> None:
        """Refuse to go on after a step whose loss was not a number."""
        step = self.descent.failed.item()
        if step != NONE:
            self._refuse("loss", step)

    def _refuse(self, what: str, step: int) -> None:
        """Name the galaxies of a step (0-based) that left no number."""
        galaxies = self.train.object_id[self.sequence.batch(step)[0]]
        raise UserError(
            f"{self.label}: the {what} is not a number in epoch {self.state.epoch + 1}, step {step + 1}, of the "
            f"galaxies with object_id {', '.join(map(str, galaxies))}: lower training.learning_rate "
            f"({self.settings.learning_rate:g}), change training.stretch ({self.settings.stretch}), or look at their "
            "cubes."
        )

    def _end_epoch(self) -> None:
        self._look()
        epoch, step = self.state.epoch, self.state.step
        speed = self._galaxies_per_second()
        scores = validate(self.descent.finish(), self.validation)
        loss = scores["validation_loss"]
        if not math.isfinite(loss):
            self._refuse("validation loss", step - 1)
        if not self.state.history or loss < min(row["validation_loss"] for row in self.state.history):
            self.best = {name: value.detach().clone() for name, value in self.network.state_dict().items()}
        taken = step - (self.sequence.steps(epoch) if epoch else 0)
        seconds_a_step = (time.monotonic() - self.begun) / max(step - self.first, 1)
        row = {
            "epoch": epoch + 1,
            "train_loss": self.loss_sum.item() / max(taken, 1),
            **scores,
            "learning_rate": learning_rate(self.settings, torch.tensor(step - 1), self.steps).item(),
            "galaxies_per_second": speed,
            "seconds_left": seconds_a_step * (self.steps - step),
            "time": time.time(),
        }
        if self.best_speed:
            row["share_of_ceiling"] = speed / self.best_speed
        self.state.history.append(row)
        if self.scalars:
            scalars, self.scalars = self.scalars, None  # for good where it fails: a record may be half written
            with self._even_without("TensorBoard's scalars"):
                scalars.add(row)
                self.scalars = scalars
        self.loss_sum.zero_()
        self.state.epoch += 1
        self.counted = step, time.monotonic()

    @contextmanager
    def _even_without(self, what: str):
        """Go on, and say so in a line, where the block fails: it serves whoever watches, and no training ends by it."""
        try:
            yield
        except Exception as error:  # of a driver, a full memory or disk, a library: any kind
            print(f"{self.label}: goes on without {what} ({first_line(error)})", file=sys.stderr)

    def _galaxies_per_second(self) -> float:
        """Training galaxies a second since the end of the last epoch, without validation."""
        step, since = self.counted
        return (self.state.step - step) * self.settings.batch / max(time.monotonic() - since, 1e-9)

    def _galaxies_per_second_at_the_ceiling(self) -> float | None:
        """Training galaxies a second that products of large matrices would allow a GPU; not measured on a CPU."""
        if not on_gpu(self.device):
            return None
        return matrix_ceiling(self.device, self.arithmetic) / flop_of_a_galaxy(self.network)

    def _save(self) -> None:
        self._look()
        best = {f"best/{name}": value for name, value in self.best.items()}
        self.state.tensors = {**self.descent.tensors(), **best, "loss_sum": self.loss_sum}
        self.checkpoints.save(self.state)

    def _resume(self) -> None:
        state = self.checkpoints.load()
        if state is None:
            return
        print(f"{self.label}: going on after step {state.step} of {self.steps}", file=sys.stderr)
        self.descent.load(state.tensors, state.step)
        self.loss_sum.copy_(state.tensors["loss_sum"])
        kept = {name.removeprefix("best/"): value for name, value in state.tensors.items() if name.startswith("best/")}
        self.best = {name: value.to(self.device) for name, value in kept.items()}
        self.state = State({}, state.step, state.epoch, state.history)
