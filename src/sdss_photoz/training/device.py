"""Choice of the device: a free GPU for each job, or the CPU."""

import ctypes
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

GPU = "cuda"  # torch's name of a device that is one
POLL_SECONDS = 2.0
MEMORY_FULL = ("out of memory", "ALLOC_FAILED", "ALLOCATION_FAILED")  # what PyTorch, CUDA and its libraries say of it


def on_gpu(place: torch.device | Tensor) -> bool:
    """Whether a device, or that of a tensor, is a GPU: all code asks here, so that tests can play one on a CPU."""
    return (place.device if isinstance(place, Tensor) else place).type == GPU


def visible_gpus() -> list[str]:
    """Identifiers of the GPUs that this job may use, in torch's order.

    CUDA_VISIBLE_DEVICES and the scheduler's choice are respected, for torch sees no others; the identifier is the
    card's own, so that two jobs that count differently mean the same card.
    """
    if not torch.cuda.is_available():
        return []
    return [str(torch.cuda.get_device_properties(index).uuid) for index in range(torch.cuda.device_count())]


@contextmanager
def claim(device: str = "auto", folder: Path | None = None) -> Iterator[torch.device]:
    """Hold a device: a free GPU, that no other job on this machine then takes, or the CPU.

    Parameters
    ----------
    device : {"auto", "cpu", "cuda"}
        auto: a GPU where there is one, waiting for a free one; otherwise the CPU, said in one line.
    folder : Path, optional
        Where the lock file of each GPU lies; default: the machine's temporary folder.

    Yields
    ------
    torch.device
        The device; its lock falls when the block ends or the process dies.

    Raises
    ------
    UserError
        Where a GPU is demanded and there is none.
    """
    gpus = [] if device == "cpu" else visible_gpus()
    if not gpus:
        if device == "cuda":
            raise UserError(
                "training.device is cuda, but this machine shows no GPU to PyTorch: install a CUDA build of PyTorch, "
                "free a GPU through CUDA_VISIBLE_DEVICES, or set training.device to auto or cpu."
            )
        if device == "auto":
            print("no GPU is visible: computing on the CPU", file=sys.stderr)
        keep_freed_memory()
        yield torch.device("cpu")
        return
    lock, index = _lock_a_free_one(gpus, folder or Path(tempfile.gettempdir()))
    try:
        yield torch.device("cuda", index)
    finally:
        lock.release()


def _lock_a_free_one(gpus: list[str], folder: Path) -> tuple[FileLock, int]:
    """Take the lock of the first free GPU; wait while all are taken.

    It is a flock, or where there is none a file with the holder's process, and no lease: a lock that could be taken
    over from a job that lives would put two on one card. The card is this machine's, so its holder's end is seen here.
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
            print(
                f"all {len(gpus)} GPUs are taken by other jobs: waiting for one ({folder}/sdss-photoz-gpu-*.lock)",
                file=sys.stderr,
            )
            waiting = True
        time.sleep(POLL_SECONDS)


@contextmanager
def full_memory_said(sentence: str) -> Iterator[None]:
    """Raise a `UserError` where the memory of a GPU becomes full: the sentence."""
    try:
        yield
    except RuntimeError as error:
        if not any(words in str(error) for words in MEMORY_FULL):
            raise
        raise UserError(sentence) from None


def keep_freed_memory(kept: bool = True) -> None:
    """Let this process keep the memory that a step frees for the next one, which the system would clear page by page.

    It concerns blocks above 32 MiB, as the maps of a wide network, of the process's first thread. Only glibc can be
    told; elsewhere nothing happens.

    Parameters
    ----------
    kept : bool
        False: as glibc does when it is told nothing.
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
    """Compute with `count` threads within the block: another number gives other weights within a few steps."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def numerics(device: torch.device, kind: torch.dtype, deterministic: bool = False) -> Iterator[None]:
    """Set how a GPU computes within the block; a CPU computes as ever.

    Parameters
    ----------
    device : torch.device
        Where to compute; within the block it is the current one.
    kind : torch.dtype
        As of `arithmetic`. With float32 all is IEEE float32. With bfloat16, float32 convolutions (validation,
        prediction) may read TF32, three bits of mantissa more than bfloat16; dense layers stay IEEE float32.
    deterministic : bool
        Whether the same work must give the same bits; otherwise the fastest algorithms are chosen by trial.
    """
    if not on_gpu(device):
        yield
        return
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when the first product is computed
    new_tensors, products = torch.utils.deterministic, torch.backends.cuda.matmul
    before = torch.are_deterministic_algorithms_enabled()
    filled, tf32 = new_tensors.fill_uninitialized_memory, products.allow_tf32
    choice = {"benchmark": not deterministic, "deterministic": deterministic, "allow_tf32": kind == torch.bfloat16}
    with torch.cuda.device(device), torch.backends.cudnn.flags(enabled=True, **choice):
        torch.use_deterministic_algorithms(deterministic)
        new_tensors.fill_uninitialized_memory = False  # it would cost a pass over each new tensor
        products.allow_tf32 = False  # an environment variable or a library may have set it
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(before)
            new_tensors.fill_uninitialized_memory, products.allow_tf32 = filled, tf32


def arithmetic(device: torch.device, precision: str = "auto") -> torch.dtype:
    """Number format of convolutions and dense layers in training.

    Weights, their updates, the last layer, the softmax and the loss are float32 in any case.

    Parameters
    ----------
    device : torch.device
        Where to compute.
    precision : {"auto", "float32", "bfloat16"}
        auto: bfloat16 where the device has instructions for it. On one that has none bfloat16 is slow, said in a line.
    """
    if on_gpu(device):
        supported = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        supported = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    if precision == "auto":
        return torch.bfloat16 if supported else torch.float32
    if precision == "bfloat16" and not supported:
        print("training.precision is bfloat16, which this device emulates: float32 is faster here", file=sys.stderr)
    return getattr(torch, precision)
