"""What the operations ask of the numbers they are given: that they are floats."""

from torch import Tensor

from polyfield.errors import ShapeError

__all__ = ["check_floats"]


def check_floats(operation: str, **tensors: Tensor | None) -> None:
    """Refuse tensors that are not of floats: kernels would read the bytes of anything else as if they were.

    Which floats is not asked: a kernel takes float32, torch the others, also where autocast mixes them.

    Args:
        operation: Who asks.
        tensors: By the names that the user knows; None is left out.

    Raises:
        ShapeError: One is not of floats.

    Example:
        >>> check_floats("mlp", x=torch.zeros(2), condition=None)
    """
    for name, tensor in tensors.items():
        if tensor is not None and not tensor.dtype.is_floating_point:
            raise ShapeError(
                f"{operation}: {name} must be of floats, but is {tensor.dtype} {list(tensor.shape)}."
            )
