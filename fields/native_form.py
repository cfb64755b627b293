"""Native forms of the parts of a field: what lets a field run without Python in between.

A domain offers `native_place()`, an encoder `native_points()`, a gate `native_gate(gradient)`, a head
`native_network(gradient)`; each gives None where its settings allow no native form. `gradient` says for a dense tensor
where native code is to write its gradient. What a native form holds are addresses: use it at once.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

__all__ = ["DenseGradients", "Gradient", "native_form", "nowhere"]

Gradient = Callable[[Tensor], int]
"""Gives the address of the gradient of a dense tensor; 0 where none is wanted."""


def nowhere(tensor: Tensor) -> int:
    """Want no gradient."""
    del tensor
    return 0


def native_form(part: Any, name: str, *given: Any) -> Any | None:
    """Ask a part for its native form.

    None where it offers none, and where it is not what it was written as: a subclass that computes something else, or a
    module with hooks or parametrizations.

    Args:
        part: An encoder, a gate, a head or a domain.
        name: The method that makes the native form.
        given: What it takes.
    """
    module = isinstance(part, nn.Module)
    if module and (part._forward_hooks or part._forward_pre_hooks or is_parametrized(part)):
        return None
    owners = [
        next((cls for cls in type(part).__mro__ if method in vars(cls)), None)
        for method in (name, "forward" if module else "place")
    ]
    return getattr(part, name)(*given) if owners[0] is not None and owners[0] is owners[1] else None


class DenseGradients:
    """Memory for the gradients of dense tensors that native code writes, until they are delivered.

    The tensors are parameters, or made of parameters in a way that autograd knows.

    Example:
        >>> weights, gradients = torch.ones(3, requires_grad=True), DenseGradients()
        >>> gradients.room(weights) != 0
        True
        >>> gradients.deliver()
        >>> weights.grad
        tensor([0., 0., 0.])
    """

    def __init__(self) -> None:
        self._pairs: list[tuple[Tensor, Tensor]] = []

    def room(self, tensor: Tensor) -> int:
        """Make a gradient of zeros and give its address."""
        gradient = torch.zeros_like(tensor, requires_grad=False)
        self._pairs.append((tensor, gradient))
        return gradient.data_ptr()

    def deliver(self) -> None:
        """Add what was written to the `grad` of the parameters."""
        for tensor, gradient in self._pairs:
            if not tensor.is_leaf:
                # A sum whose gradient is this. Handing it to autograd itself is as quick, but the first time it imports
                # a computer algebra system, for half a second.
                torch.dot(tensor.reshape(-1), gradient.view(-1)).backward()
            elif tensor.grad is None:
                tensor.grad = gradient
            else:
                tensor.grad.add_(gradient)
