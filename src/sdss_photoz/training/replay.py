"""A step compiled, recorded once and replayed: a GPU would else wait for Python between its kernels."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from sdss_photoz.training.device import on_gpu

WARM_UP = 3  # steps before the recording, in which kernels are compiled and chosen
VARIANTS = 64  # of a function that one process may compile: a benchmark trains many recipes in turn


def keep_kernels(folder) -> None:
    """Let compiled kernels be kept in a folder, for all jobs that name the same one; a user's own choice stands.

    Four processes compile them, where PyTorch would start one for each core of a node, beyond a job's memory.
    """
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str((Path(folder) / "kernels").resolve()))
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "4")


class Compiler:
    """Compiles functions on a GPU; on a CPU, and once compiling has failed, they run as they are written.

    Parameters
    ----------
    on : bool
        Whether to compile.
    """

    def __init__(self, on: bool):
        self.on = on

    def __call__(self, function: Callable) -> Callable:
        """The function, compiled when it is first called."""
        if not self.on:
            return function
        compiled = torch.compile(function, fullgraph=True, dynamic=False, recompile_limit=VARIANTS)
        return lambda *arguments: (compiled if self.on else function)(*arguments)


class Graph:
    """Records what a function does on a GPU."""

    def __init__(self, device: torch.device):
        self.device, self.stream = device, torch.cuda.Stream(device)

    def run(self, function: Callable) -> None:
        """Run a function on the stream that it will be recorded on, as CUDA asks for before a recording."""
        current = torch.cuda.current_stream(self.device)
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            function()
        current.wait_stream(self.stream)

    def record(self, function: Callable) -> Callable:
        """Record a function without doing it; the returned one does it."""
        graph = torch.cuda.CUDAGraph()
        # thread_local: the thread that copies batches goes on; the outer block takes the stream back if all fails
        with (
            torch.cuda.stream(self.stream),
            torch.cuda.graph(graph, stream=self.stream, capture_error_mode="thread_local"),
        ):
            function()
        return graph.replay


def recorder(device: torch.device) -> Graph | None:
    """What records a step on a device; None: nothing does."""
    return Graph(device) if on_gpu(device) else None


class Replay:
    """A step of a training: run as it is written a few times, then recorded and replayed.

    The first steps count as all others do, so there is nothing to undo. Where there is no recorder, as on a CPU, and
    where recording fails, all steps run as they are written.

    Parameters
    ----------
    step : callable
        Given its inputs on the device, it changes tensors in place. All that differs from step to step it must take
        from its inputs or from tensors that stay in place, and it must not wait for the device.
    recorder : Graph or None
        What records it.
    compiler : Compiler
        Switched off where the first steps fail with it on.
    label : str
        Name in messages.
    """

    def __init__(self, step: Callable, recorder: Graph | None, compiler: Compiler, label: str):
        self.step, self.recorder, self.compiler, self.label = step, recorder, compiler, label
        self.inputs: list[Tensor] = []
        self.replay, self.taken = None, 0

    def __call__(self, device: torch.device, *inputs: Tensor) -> None:
        """Take a step with inputs that lie on the device or in page-locked memory."""
        if self.recorder is None:
            self.inputs = [value.to(device) for value in inputs]
            self._run()
            return
        self.inputs = self.inputs or [torch.empty_like(value, device=device) for value in inputs]
        for place, value in zip(self.inputs, inputs, strict=True):
            place.copy_(value, non_blocking=True)
        if self.taken == WARM_UP:
            self._record()
        if self.replay:
            self.replay()
        else:
            self._run()
        self.taken += 1

    def _on_inputs(self) -> None:
        self.step(*self.inputs)

    def _run(self) -> None:
        run = self.recorder.run if self.recorder else lambda step: step()
        try:
            run(self._on_inputs)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # of a compiler, a driver or a library: any kind
            if not self.compiler.on:
                raise
            self._say("compiled", error)
            self.compiler.on = False
            run(self._on_inputs)

    def _record(self) -> None:
        try:
            self.replay = self.recorder.record(self._on_inputs)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            self._say("recorded", error)

    def _say(self, what: str, error: Exception) -> None:
        why = first_line(error)
        print(f"{self.label}: a step cannot be {what} on this GPU ({why}): it runs slower without", file=sys.stderr)


def first_line(error: Exception) -> str:
    """What an error says first; its type where it says nothing."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
