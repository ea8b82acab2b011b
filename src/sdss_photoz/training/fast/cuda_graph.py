"""A training step that is compiled and captured as a CUDA graph, so that a GPU need not wait for Python."""

import logging
import os
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from sdss_photoz.device import on_gpu

WARM_UP = 3  # steps before the capture, in which kernels are compiled and chosen
RECOMPILE_LIMIT = 64  # compilations of one function per process: a benchmark trains many recipes in one

_log = logging.getLogger(__name__)


def cache_kernels(folder: str | Path) -> None:
    """Let PyTorch cache compiled kernels in a folder, shared by all jobs that give the same one.

    Kernels are compiled by four processes: PyTorch would start one per core of the node, beyond the memory of a job.
    Environment variables that are set already are left as they are.
    """
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str((Path(folder) / "kernels").resolve()))
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "4")


class Compiler:
    """Compiles functions, until compilation fails once; from then on they run uncompiled.

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
        compiled = torch.compile(function, fullgraph=True, dynamic=False, recompile_limit=RECOMPILE_LIMIT)
        return lambda *arguments: (compiled if self.on else function)(*arguments)


class CudaGraph:
    """Captures the operations of a function on a GPU."""

    def __init__(self, device: torch.device):
        self.device, self.stream = device, torch.cuda.Stream(device)

    def run(self, function: Callable[[], None]) -> None:
        """Run a function on the stream of the capture, which CUDA requires of the steps before it."""
        current = torch.cuda.current_stream(self.device)
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            function()
        current.wait_stream(self.stream)

    def capture(self, function: Callable[[], None]) -> Callable[[], None]:
        """Capture a function without executing it; the function that is returned executes it."""
        graph = torch.cuda.CUDAGraph()
        # thread_local: the thread that copies batches goes on; the outer block restores the stream if the capture fails
        with (
            torch.cuda.stream(self.stream),
            torch.cuda.graph(graph, stream=self.stream, capture_error_mode="thread_local"),
        ):
            function()
        return graph.replay


def make_graph(device: torch.device) -> CudaGraph | None:
    """A `CudaGraph` on a GPU, None on a CPU."""
    return CudaGraph(device) if on_gpu(device) else None


class CapturedStep:
    """A training step that runs eagerly `WARM_UP` times, then is captured as a CUDA graph and replayed.

    The eager steps are steps of the training. Without a graph, as on a CPU, and where the capture fails, all steps run
    eagerly.

    Parameters
    ----------
    step : callable
        Function of its inputs on the device, which updates tensors in place. What differs from step to step must come
        from the inputs or from tensors that are updated in place; no value may be read back from the device.
    graph : CudaGraph or None
        What captures the step.
    compiler : Compiler
        Switched off if the step fails while it is on.
    label : str
        Name of the training, for messages.

    Attributes
    ----------
    inputs : list of Tensor
        The tensors on the device that the captured step reads.
    taken : int
        Steps taken, with a graph.
    """

    def __init__(self, step: Callable[..., None], graph: CudaGraph | None, compiler: Compiler, label: str):
        self.step, self.graph, self.compiler, self.label = step, graph, compiler, label
        self.inputs: list[Tensor] = []
        self.replay, self.taken = None, 0

    def __call__(self, device: torch.device, *inputs: Tensor) -> None:
        """Take a step with inputs on the device or in page-locked memory."""
        if self.graph is None:
            self.inputs = [value.to(device) for value in inputs]
            self._run()
            return
        self.inputs = self.inputs or [torch.empty_like(value, device=device) for value in inputs]
        for buffer, value in zip(self.inputs, inputs, strict=True):
            buffer.copy_(value, non_blocking=True)
        if self.taken == WARM_UP:
            self._capture()
        if self.replay:
            self.replay()
        else:
            self._run()
        self.taken += 1

    def _on_inputs(self) -> None:
        self.step(*self.inputs)

    def _run(self) -> None:
        run = self.graph.run if self.graph else lambda step: step()
        try:
            run(self._on_inputs)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # of any type: from a compiler, a driver or a library
            if not self.compiler.on:
                raise
            self._log_failure("compiled", error)
            self.compiler.on = False
            run(self._on_inputs)

    def _capture(self) -> None:
        try:
            self.replay = self.graph.capture(self._on_inputs)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            self._log_failure("captured", error)

    def _log_failure(self, action: str, error: Exception) -> None:
        reason = first_line(error)
        _log.warning("%s: a step cannot be %s on this GPU (%s): it runs slower without", self.label, action, reason)


def first_line(error: Exception) -> str:
    """First line of an error's message; its type if the message is empty."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
