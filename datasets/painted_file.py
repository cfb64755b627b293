"""Mesh files with what they say of their looks: colours of vertices or faces, of materials, and textures.

For pictures: vertices and faces stay as the file has them, nothing is merged or dropped.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from polyfield.datasets.mesh import Mesh
from polyfield.datasets.mesh_file import load_parts, opened
from polyfield.datasets.mesh_paint import Paint
from polyfield.errors import DataError

__all__ = ["read_painted"]

_PLAIN = 0.8  # grey, of a part without colours beside others that have some


def read_painted(path: Path | str) -> tuple[Mesh, Paint | None]:
    """Read a mesh and its looks; None where the file says nothing of them.

    Textures stand for their faces' colour: what shines, what is rough, and normals in textures are left aside.

    Raises:
        InputError: There is no such file, it cannot be read, or its name ends in no known format.
        DataError: It is empty, cut off, damaged, or holds no triangle with area.
    """
    path = Path(path)
    kind = opened(path)
    parts = load_parts(path, kind, materials=True)
    looks = [_looks(part, faces, linear=kind == "glb") for _, faces, part in parts]
    vertices, faces, start = list[Tensor](), list[Tensor](), 0
    for places, of, _ in parts:
        vertices.append(torch.tensor(places, dtype=torch.float64).view(-1, 3))
        faces.append(torch.tensor(np.ascontiguousarray(of), dtype=torch.int64).view(-1, 3) + start)
        start += len(places)
    try:
        mesh = Mesh(torch.cat(vertices), torch.cat(faces))
    except DataError as error:
        raise DataError(f"The mesh {path} cannot be used: {error}") from None
    if all(look is None for look in looks):
        return mesh, None
    return mesh, _joined([len(of) for of in faces], looks)


class _Look:
    """Of one part: colours [F, 3, 3] of the corners of its faces, or a texture and places [F, 3, 2] in it."""

    def __init__(
        self, corners: Tensor | None = None, texture: Tensor | None = None, uv: Tensor | None = None
    ) -> None:
        self.corners, self.texture, self.uv = corners, texture, uv


def _joined(counts: list[int], looks: list[_Look | None]) -> Paint:
    textures = list[Tensor]()
    corners, uv, texture_of = list[Tensor](), list[Tensor](), list[Tensor]()
    for count, look in zip(counts, looks, strict=True):
        look = look or _Look()
        number = -1
        if look.texture is not None:
            number = len(textures)
            textures.append(look.texture)
        corners.append(torch.full((count, 3, 3), _PLAIN) if look.corners is None else look.corners)
        uv.append(torch.zeros(count, 3, 2) if look.uv is None else look.uv)
        texture_of.append(torch.full((count,), number))
    return Paint(torch.cat(corners), tuple(textures), torch.cat(uv), torch.cat(texture_of))


def _looks(part: Any, corners: np.ndarray, linear: bool) -> _Look | None:
    """Look at what the parser found.

    Args:
        part: Its mesh.
        corners: Vertices of its faces, in the order in which they are drawn.
        linear: Whether colours of vertices and materials are in linear light.
    """
    visual, faces = part.visual, torch.tensor(np.ascontiguousarray(corners), dtype=torch.int64)
    if visual.kind == "face":
        own = _unit(visual.face_colors, linear=False)
        return _Look(own[:, None].expand(-1, 3, -1).contiguous())
    if visual.kind == "vertex":
        # The parser has turned them to bytes, in whatever light they were.
        return _Look(_unit(visual.vertex_colors, linear)[faces])
    if visual.kind != "texture":
        return None
    material = visual.material
    factor = getattr(material, "baseColorFactor", None)
    own = torch.ones(1, 3) if factor is None else _unit(np.asarray(factor)[None], linear)
    image = getattr(material, "baseColorTexture", None) or getattr(material, "image", None)
    if image is not None and visual.uv is not None and len(visual.uv) == len(part.vertices):
        uv = torch.tensor(np.asarray(visual.uv), dtype=torch.float32)[:, :2]
        uv = torch.stack([uv[:, 0], 1.0 - uv[:, 1]], 1)  # the parser counts from the bottom
        return _Look(texture=_tinted(image, own), uv=uv[faces])
    colors = visual.vertex_attributes.get("color")
    if colors is not None and len(colors) == len(part.vertices):
        return _Look(_unit(colors, linear)[faces])
    if factor is None:
        diffuse = getattr(material, "diffuse", None)
        if diffuse is None:
            return None
        own = _unit(np.asarray(diffuse)[None], linear=False)
    return _Look(own[:, None].expand(len(faces), 3, 3).contiguous())


def _unit(colors: Any, linear: bool) -> Float[Tensor, "N 3"]:
    """Give sRGB in [0, 1] from colours of any kind of number."""
    given = np.asarray(colors)[:, :3]
    most = np.iinfo(given.dtype).max if given.dtype.kind in "iu" else 1
    part = torch.tensor(given / most, dtype=torch.float32).nan_to_num(0.0).clamp(0, 1)
    return _encoded(part) if linear else part


def _encoded(light: Float[Tensor, "*N"]) -> Float[Tensor, "*N"]:
    """From linear light to sRGB."""
    bright = 1.055 * light.clamp(min=1e-9) ** (1 / 2.4) - 0.055
    return torch.where(light <= 0.0031308, 12.92 * light, bright)


def _tinted(image: Any, factor: Float[Tensor, "1 3"]) -> Tensor:
    """A texture in the colour of its material."""
    picture = torch.tensor(np.asarray(image.convert("RGB")))
    if bool((factor > 0.999).all()):
        return picture
    # A product in sRGB's powers is nearly the power of the product in linear light.
    return (picture * factor).round().to(torch.uint8)
