"""What heads that read all of their inputs at once share."""

from jaxtyping import Float, Int32
from torch import Tensor, cat

from polyfield.errors import ShapeError

__all__ = ["joined"]


def joined(
    x: Float[Tensor, "N x"],
    condition: Float[Tensor, "R c"] | None,
    rows: Int32[Tensor, " N"] | None,
) -> Float[Tensor, "N F"]:
    """Lay each point's features and its row of the condition side by side; features alone without a condition.

    Raises:
        ShapeError: Only one of `condition` and `rows` is given.
    """
    if (condition is None) != (rows is None):
        raise ShapeError("A head needs condition and rows together, or neither.")
    if condition is None or rows is None:
        return x
    return cat([x, condition.index_select(0, rows)], 1)
