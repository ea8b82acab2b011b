"""Choice of the device (a free GPU for each job, or the CPU) and of how it computes."""

import ctypes
import logging
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from filelock import FileLock, Timeout
from torch import Tensor

from sdss_photoz.errors import UserError

GPU = "cuda"  # torch's name of this type of device
POLL_SECONDS = 2.0
MEMORY_FULL = ("out of memory", "ALLOC_FAILED", "ALLOCATION_FAILED")  # in messages of PyTorch, CUDA and its libraries

_log = logging.getLogger(__name__)


def on_gpu(device: torch.device | Tensor) -> bool:
    """Whether a device, or that of a tensor, is a GPU. All code calls this function, which tests replace on a CPU."""
    return (device.device if isinstance(device, Tensor) else device).type == GPU


def visible_gpus() -> list[str]:
    """UUIDs of the GPUs that this job may use, in torch's order.

    torch sees only those that CUDA_VISIBLE_DEVICES and the scheduler allow; its indices differ between jobs, UUIDs do
    not.
    """
    if not torch.cuda.is_available():
        return []
    return [str(torch.cuda.get_device_properties(index).uuid) for index in range(torch.cuda.device_count())]


@contextmanager
def claim(device: str = "auto", folder: Path | None = None) -> Iterator[torch.device]:
    """Reserve a device: a GPU that no other job on this machine uses, or the CPU.

    Parameters
    ----------
    device : {"auto", "cpu", "cuda"}
        auto: a GPU if the machine has any, waiting until one is free; otherwise the CPU, with a log message.
    folder : Path, optional
        Folder of the lock files, one per GPU; default: the machine's temporary folder.

    Yields
    ------
    torch.device
        The device; its lock is released when the block ends or the process dies.

    Raises
    ------
    UserError
        If `device` is "cuda" and no GPU is visible.
    """
    gpus = [] if device == "cpu" else visible_gpus()
    if not gpus:
        if device == "cuda":
            raise UserError(
                "training.device is cuda, but this machine shows no GPU to PyTorch: install a CUDA build of PyTorch, "
                "free a GPU through CUDA_VISIBLE_DEVICES, or set training.device to auto or cpu."
            )
        if device == "auto":
            _log.info("no GPU is visible: computing on the CPU")
        keep_freed_memory()
        yield torch.device("cpu")
        return
    lock, index = _lock_free_gpu(gpus, folder or Path(tempfile.gettempdir()))
    try:
        yield torch.device("cuda", index)
    finally:
        lock.release()


def _lock_free_gpu(gpus: list[str], folder: Path) -> tuple[FileLock, int]:
    """Lock the first free GPU, waiting while there is none; return the lock and the GPU's index.

    The lock is a `flock`, not a lease (`locks.exclusive`): a lease can be taken over from a suspended job, which would
    put two jobs on one GPU. All jobs that share the GPU run on this machine.
    """
    waiting = False
    while True:
        for index, gpu in enumerate(gpus):
            lock = FileLock(folder / f"sdss-photoz-gpu-{gpu}.lock", mode=0o666)
            try:
                lock.acquire(blocking=False)
            except Timeout:
                continue
            return lock, index
        if not waiting:
            _log.info(
                "all %d GPUs are taken by other jobs: waiting for one (%s/sdss-photoz-gpu-*.lock)", len(gpus), folder
            )
            waiting = True
        time.sleep(POLL_SECONDS)


@contextmanager
def full_memory_as_user_error(message: str) -> Iterator[None]:
    """Convert the error of a full GPU memory within the block to a `UserError` with this message."""
    try:
        yield
    except RuntimeError as error:
        if not any(words in str(error) for words in MEMORY_FULL):
            raise
        raise UserError(message) from None


def keep_freed_memory(kept: bool = True) -> None:
    """Make malloc reuse freed blocks above 32 MiB instead of returning them to the system, which zeroes new pages.

    Such blocks are the activations of a wide network. The setting is glibc's and applies to the main thread; on other
    systems nothing happens.

    Parameters
    ----------
    kept : bool
        False restores glibc's defaults.
    """
    library = ctypes.CDLL(None) if sys.platform == "linux" else None
    if not hasattr(library, "mallopt"):
        return
    trim, own_blocks, own_above = -1, -4, -3  # glibc's M_TRIM_THRESHOLD, M_MMAP_MAX and M_MMAP_THRESHOLD
    library.mallopt(own_blocks, 0 if kept else 65536)
    library.mallopt(trim, -1 if kept else 64 << 20)
    if not kept:
        library.mallopt(own_above, 32 << 20)
        library.malloc_trim(0)


@contextmanager
def cpu_threads(count: int) -> Iterator[None]:
    """Compute with `count` threads within the block. Rounding, and so trained weights, depend on the number."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def numerics(device: torch.device, dtype: torch.dtype, deterministic: bool = False) -> Iterator[None]:
    """Set the precision and determinism of a GPU within the block; on a CPU nothing is set.

    Parameters
    ----------
    device : torch.device
        Where to compute; within the block it is torch's current device.
    dtype : torch.dtype
        See `compute_dtype`. With float32 all is IEEE float32. With bfloat16, convolutions in float32 (validation,
        prediction) may use TF32, which has three bits of mantissa more than bfloat16; dense layers use IEEE float32.
    deterministic : bool
        Whether to use deterministic algorithms only; otherwise cuDNN chooses the fastest by measuring.
    """
    if not on_gpu(device):
        yield
        return
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when the first product is computed
    new_tensors, products = torch.utils.deterministic, torch.backends.cuda.matmul
    before = torch.are_deterministic_algorithms_enabled()
    filled, tf32 = new_tensors.fill_uninitialized_memory, products.allow_tf32
    choice = {"benchmark": not deterministic, "deterministic": deterministic, "allow_tf32": dtype == torch.bfloat16}
    with torch.cuda.device(device), torch.backends.cudnn.flags(enabled=True, **choice):
        torch.use_deterministic_algorithms(deterministic)
        new_tensors.fill_uninitialized_memory = False  # it would cost a pass over each new tensor
        products.allow_tf32 = False  # an environment variable or a library may have set it
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(before)
            new_tensors.fill_uninitialized_memory, products.allow_tf32 = filled, tf32


def compute_dtype(device: torch.device, precision: str = "auto") -> torch.dtype:
    """Dtype of convolutions and dense layers in training.

    Weights, their updates, the last layer, the softmax and the loss are float32 in any case.

    Parameters
    ----------
    device : torch.device
        Where to compute.
    precision : {"auto", "float32", "bfloat16"}
        auto: bfloat16 if the device has instructions for it, else float32. Emulated bfloat16 is slow: a warning is
        logged.
    """
    if on_gpu(device):
        supported = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        supported = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    if precision == "auto":
        return torch.bfloat16 if supported else torch.float32
    if precision == "bfloat16" and not supported:
        _log.warning("training.precision is bfloat16, which this device emulates: float32 is faster here")
    return getattr(torch, precision)
