"""Random numbers by a hash of integers: the same on every device, and without a generator's state."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

WORD = 0xFFFFFFFF  # 32 bits, kept in int64
APART = 0x9E3779B9  # between the seeds of layers, of the calls of one layer, and of the draws of one word


def hash_words(x: "Tensor") -> "Tensor":
    """Hash of integers to 32 bits, as int64: the finalizer of MurmurHash3 (Appleby 2011)."""
    x = x & WORD
    x = ((x ^ (x >> 16)) * 0x85EBCA6B) & WORD
    x = ((x ^ (x >> 13)) * 0xC2B2AE35) & WORD
    return x ^ (x >> 16)


def uniform(words: "Tensor") -> "Tensor":
    """Hashed words as float32 between 0 and 1."""
    return (words.float() + 0.5) / (WORD + 1)
