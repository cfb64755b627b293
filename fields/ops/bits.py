"""Bits: truth values, eight to a byte."""

import numpy as np
import torch
from jaxtyping import Bool, UInt8
from torch import Tensor

__all__ = ["pack_bits", "unpack_bits"]


def pack_bits(flags: Bool[Tensor, " N"]) -> UInt8[Tensor, " B"]:
    """Lay truth values into bytes, the first of eight in the lowest bit; the last byte is filled up with 0.

    Example:
        >>> pack_bits(torch.tensor([True, False, True])).tolist()
        [5]
    """
    return torch.from_numpy(np.packbits(flags.detach().cpu().numpy(), bitorder="little"))


def unpack_bits(bits: UInt8[Tensor, " B"], count: int) -> Bool[Tensor, " N"]:
    """Take the first `count` truth values out of bytes: see `pack_bits`."""
    flags = np.unpackbits(bits.detach().cpu().numpy(), count=count, bitorder="little")
    return torch.from_numpy(flags).bool()
