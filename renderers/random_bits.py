"""Random numbers by counter, as in csrc/math/occupancy.h: each is the same whoever computes it, and in which order."""

from jaxtyping import Int
from torch import Tensor

__all__ = ["random_below", "random_bits"]


def random_below(bits: Int[Tensor, " N"], total: int) -> Int[Tensor, " N"]:
    """Make uniform numbers in [0, total) of the upper 32 bits; total < 2^32.

    Example:
        >>> import torch
        >>> random_below(torch.tensor([0, 1 << 62, -1]), 100).tolist()
        [0, 25, 99]
    """
    return (((bits >> 32) & 0xFFFFFFFF) * total) >> 32


def random_bits(seed: int, n: Int[Tensor, " N"]) -> Int[Tensor, " N"]:
    """Give the n-th numbers of stream `seed`: int64, which wraps around like uint64.

    Example:
        >>> import torch
        >>> random_bits(7, torch.tensor([0, 1, 0])).diff().sum().item()
        0
    """

    def signed(bits: int) -> int:
        return bits - (1 << 64) if bits >> 63 else bits

    def fold(x: Tensor, shift: int) -> Tensor:
        return x ^ ((x >> shift) & ((1 << (64 - shift)) - 1))

    x = seed + (n + 1) * signed(0x9E3779B97F4A7C15)
    x = fold(x, 30) * signed(0xBF58476D1CE4E5B9)
    x = fold(x, 27) * signed(0x94D049BB133111EB)
    return fold(x, 31)
