"""How the surface of a mesh looks: colours of its corners, and textures.

Axes: F faces, N places on them.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Float32, Int64, UInt8
from torch import Tensor

from polyfield.datasets.mesh import Mesh
from polyfield.errors import ShapeError

__all__ = ["Paint"]


@dataclass(frozen=True, eq=False)
class Paint:
    """Colours of the faces of a mesh, sRGB, shown as they are.

    Attributes:
        corners: Of each face's three corners, in [0, 1]; between them they are mixed.
        textures: Pictures; their first row is at the top.
        uv: Where each corner lies in its face's texture: 0 to 1 from left to right, and from top to bottom. Beyond that
            the texture is repeated.
        texture_of: Number of each face's texture, which is what it shows; -1: it has none, and shows `corners`.

    Raises:
        ShapeError: Tensors that do not fit each other.

    Example:
        >>> paint = Paint(torch.tensor([[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]]))
        >>> paint.seen(torch.tensor([0]), torch.tensor([[0.5, 0.25, 0.25]])).tolist()
        [[0.5, 0.25, 0.25]]
    """

    corners: Float32[Tensor, "F 3 3"]
    textures: tuple[UInt8[Tensor, "H W 3"], ...] = ()
    uv: Float32[Tensor, "F 3 2"] | None = None
    texture_of: Int64[Tensor, " F"] | None = None

    def __post_init__(self) -> None:
        count = len(self.corners)
        for name, tensor, shape in (
            ("corners", self.corners, (count, 3, 3)),
            ("uv", self.uv, (count, 3, 2)),
            ("texture_of", self.texture_of, (count,)),
        ):
            if tensor is not None and tuple(tensor.shape) != shape:
                raise ShapeError(
                    f"Paint: {name} must be {list(shape)}, but is {list(tensor.shape)}."
                )
        if self.textures and (self.uv is None or self.texture_of is None):
            raise ShapeError("Paint: with textures it takes uv and texture_of, too.")

    @staticmethod
    def of_vertices(mesh: Mesh, colors: Float[Tensor, "V 3"]) -> "Paint":
        """Paint a mesh by the colours of its vertices, sRGB in [0, 1].

        Raises:
            ShapeError: Not one colour for each vertex.
        """
        if colors.shape != mesh.vertices.shape:
            raise ShapeError(
                f"Paint: colors must be {list(mesh.vertices.shape)}, one for each vertex, but are {list(colors.shape)}."
            )
        return Paint(colors.float()[mesh.faces])

    def seen(
        self, faces: Int64[Tensor, " N"], weights: Float[Tensor, "N 3"]
    ) -> Float[Tensor, "N 3"]:
        """Give the colours of places.

        Args:
            faces: Which faces they lie on.
            weights: Of the faces' corners there, together 1.
        """
        shares = weights[:, :, None]
        color = (self.corners[faces] * shares).sum(1)
        if self.uv is None or self.texture_of is None:
            return color
        chosen = self.texture_of[faces]
        for number, texture in enumerate(self.textures):
            rows = (chosen == number).nonzero()[:, 0]
            color[rows] = _between(texture, (self.uv[faces[rows]] * shares[rows]).sum(1))
        return color


def _between(texture: UInt8[Tensor, "H W 3"], uv: Float[Tensor, "N 2"]) -> Float[Tensor, "N 3"]:
    """Mix the four texels around places."""
    high, wide, _ = texture.shape
    size = torch.tensor([wide, high])
    # To one tile first: far out in a repeated texture, single precision tells no texels apart.
    place = (uv - uv.floor()) * size - 0.5
    first = place.floor()
    x, y = first.long().unbind(1)
    right, down = (place - first)[:, :, None].unbind(1)
    flat = texture.view(-1, 3)

    def at(across: int, along: int) -> Tensor:
        return flat[(y + along) % high * wide + (x + across) % wide].float()

    upper = at(0, 0) * (1 - right) + at(1, 0) * right
    lower = at(0, 1) * (1 - right) + at(1, 1) * right
    return (upper * (1 - down) + lower * down) / 255
