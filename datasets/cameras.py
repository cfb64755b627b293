"""Cameras: where each picture was taken from and how it sees.

Axes are OpenCV's (x right, y down, z forward); poses are `world_from_camera`; a pixel's centre lies at +0.5. Poses and
intrinsics are float64, rays float32. Letters: C cameras, R rays, N points.

    pixel -> (pixel - center) / focal -> lens -> direction in the camera -> rotation -> direction in the world
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float, Float32, Float64, Int, Int64
from torch import Tensor

from polyfield import native
from polyfield.datasets import lenses
from polyfield.datasets.lenses import MODELS, Lens
from polyfield.errors import DataError, ShapeError

__all__ = ["Cameras"]

_TABLE_BYTES = 256 << 20  # undistorted directions of all pixel centres are kept up to this size


@dataclass(frozen=True, eq=False)
class Cameras:
    """Posed cameras, each with its own intrinsics and lens.

    Attributes:
        world_from_camera: Rotation and position [R | t]; the columns of R are the camera's right, down and forward.
        focal: fx, fy in pixels, > 0.
        center: cx, cy in pixels; (0, 0) is the top left corner of the image, not the centre of its first pixel.
        size: Width and height in pixels.
        lenses: The lens of each camera.

    Example:
        >>> looking_down_z = torch.eye(3, 4, dtype=torch.float64)[None]
        >>> camera = Cameras(
        ...     looking_down_z,
        ...     focal=torch.tensor([[100.0, 100.0]], dtype=torch.float64),
        ...     center=torch.tensor([[32.0, 24.0]], dtype=torch.float64),
        ...     size=torch.tensor([[64, 48]]),
        ...     lenses=(Lens(),),
        ... )
        >>> origins, directions = camera.rays(torch.tensor([0]), torch.tensor([[32.0, 24.0]]))
        >>> directions.tolist()
        [[0.0, 0.0, 1.0]]
    """

    world_from_camera: Float64[Tensor, "C 3 4"]
    focal: Float64[Tensor, "C 2"]
    center: Float64[Tensor, "C 2"]
    size: Int64[Tensor, "C 2"]
    lenses: tuple[Lens, ...]

    def __post_init__(self) -> None:
        count = len(self.lenses)
        for name, shape in (
            ("world_from_camera", (count, 3, 4)),
            ("focal", (count, 2)),
            ("center", (count, 2)),
            ("size", (count, 2)),
        ):
            value: Tensor = getattr(self, name)
            wanted = torch.int64 if name == "size" else torch.float64
            if tuple(value.shape) != shape or value.dtype != wanted:
                raise ShapeError(
                    f"Cameras: {name} must be {wanted} of shape {shape} for {count} lenses,"
                    f" but is {value.dtype} of shape {tuple(value.shape)}."
                )

    def __len__(self) -> int:
        return len(self.lenses)

    @property
    def positions(self) -> Float64[Tensor, "C 3"]:
        """Where the cameras stand, in the world."""
        return self.world_from_camera[:, :, 3]

    @property
    def forward(self) -> Float64[Tensor, "C 3"]:
        """Unit directions in which the cameras look, in the world."""
        return self.world_from_camera[:, :, 2]

    @property
    def straight(self) -> bool:
        """Whether every lens keeps straight lines straight (pinholes)."""
        return all(lens.straight for lens in self.lenses)

    def rays(
        self, camera_ids: Int[Tensor, " R"], pixels: Float[Tensor, "R 2"]
    ) -> tuple[Float32[Tensor, "R 3"], Float32[Tensor, "R 3"]]:
        """Cast rays through places of the images, with distortion undone.

        Args:
            camera_ids: Which camera.
            pixels: x and y in pixels; the centre of the first pixel is (0.5, 0.5).

        Returns:
            origins: World positions of the cameras.
            directions: Unit vectors in the world. Where the lens model cannot be inverted (see `seen`), the camera's
                forward direction.
        """
        camera_ids = camera_ids.long()
        if self.straight:
            return self._straight_rays(camera_ids, pixels)
        inside = self._from_table(camera_ids, pixels)
        if inside is None:
            plane = (pixels.double() - self.center[camera_ids]) / self.focal[camera_ids]
            exact = self._directions(camera_ids, plane)
            inside = torch.where(torch.isfinite(exact), exact, _FORWARD).float()
        rows = self._turning_rows.index_select(0, camera_ids)
        directions = rows[:, 0:3] * inside[:, 0:1]
        directions.addcmul_(rows[:, 3:6], inside[:, 1:2])
        directions.addcmul_(rows[:, 6:9], inside[:, 2:3])
        return rows[:, 9:].contiguous(), directions

    def seen(
        self, camera_ids: Int[Tensor, " R"], pixels: Float[Tensor, "R 2"]
    ) -> Int[Tensor, " R"]:
        """Say where the lens model can be inverted: everywhere, but for the corners of some fisheyes. bool [R]."""
        camera_ids = camera_ids.long()
        plane = (pixels.double() - self.center[camera_ids]) / self.focal[camera_ids]
        return torch.isfinite(self._directions(camera_ids, plane)).all(-1)

    def project(
        self, points: Float[Tensor, "N 3"], camera_ids: Int[Tensor, " N"]
    ) -> Float64[Tensor, "N 2"]:
        """Find where world points appear in the images.

        Args:
            points: World positions.
            camera_ids: The camera of each point.

        Returns:
            Pixels, which may lie outside the image; NaN for what the lens cannot see (behind a pinhole).
        """
        camera_ids = camera_ids.long()
        pose = self.world_from_camera[camera_ids]
        local = ((points.double() - pose[..., 3]).unsqueeze(-2) @ pose[..., :3]).squeeze(-2)
        plane = torch.empty(len(points), 2, dtype=torch.float64)
        for model, row_of_camera, coefficients in self._models:
            rows = row_of_camera[camera_ids]
            mine = (rows >= 0).nonzero().squeeze(-1)
            plane[mine] = lenses.project(model, local[mine], coefficients[rows[mine]])
        return plane * self.focal[camera_ids] + self.center[camera_ids]

    def resized(self, k: int) -> "Cameras":
        """Give the cameras of images made smaller by a box filter of k x k pixels (a remainder is cut off)."""
        return replace(self, focal=self.focal / k, center=self.center / k, size=self.size // k)

    def fitted(self, sizes: Int[Tensor, "C 2"]) -> "Cameras":
        """Give the cameras of images that were scaled, whole, to these sizes."""
        factor = sizes.double() / self.size.double()
        return replace(
            self,
            focal=self.focal * factor,
            center=self.center * factor,
            size=sizes.to(torch.int64).clone(),
        )

    def select(self, ids: Sequence[int]) -> "Cameras":
        """Give some of the cameras, in the order asked for."""
        rows = torch.tensor(list(ids), dtype=torch.int64)
        return Cameras(
            self.world_from_camera[rows],
            self.focal[rows],
            self.center[rows],
            self.size[rows],
            tuple(self.lenses[int(i)] for i in rows),
        )

    def to_json(self) -> list[dict[str, Any]]:
        """Write the cameras as plain JSON values; float64 survives exactly."""
        return [
            {
                "world_from_camera": self.world_from_camera[i].tolist(),
                "focal": self.focal[i].tolist(),
                "center": self.center[i].tolist(),
                "size": self.size[i].tolist(),
                "lens": self.lenses[i].model,
                "coefficients": list(self.lenses[i].coefficients),
            }
            for i in range(len(self))
        ]

    @staticmethod
    def from_json(data: Sequence[dict[str, Any]]) -> "Cameras":
        """Read what `to_json` wrote.

        Raises:
            DataError: A key is missing or a value has the wrong shape.
        """
        try:
            columns = {
                key: torch.tensor([camera[key] for camera in data], dtype=torch.float64).reshape(
                    len(data), *shape
                )
                for key, shape in (
                    ("world_from_camera", (3, 4)),
                    ("focal", (2,)),
                    ("center", (2,)),
                    ("size", (2,)),
                )
            }
            found = tuple(
                Lens(str(camera["lens"]), tuple(float(k) for k in camera["coefficients"]))
                for camera in data
            )
        except DataError:
            raise
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise DataError(f"The list of cameras is broken ({error}).") from None
        return Cameras(
            columns["world_from_camera"],
            columns["focal"],
            columns["center"],
            columns["size"].long(),
            found,
        )

    @cached_property
    def _models(self) -> list[tuple[str, Int64[Tensor, " C"], Float64[Tensor, "K P"]]]:
        """For each model in use: its name, each camera's row in its coefficients (-1: another model), coefficients."""
        result = []
        for model in dict.fromkeys(lens.model for lens in self.lenses):
            mine = [i for i, lens in enumerate(self.lenses) if lens.model == model]
            row = torch.full((len(self),), -1, dtype=torch.int64)
            row[mine] = torch.arange(len(mine))
            table = torch.tensor([self.lenses[i].coefficients for i in mine], dtype=torch.float64)
            result.append((model, row, table.reshape(len(mine), len(MODELS[model].coefficients))))
        return result

    def _directions(
        self, camera_ids: Int64[Tensor, " R"], plane: Float64[Tensor, "R 2"]
    ) -> Float64[Tensor, "R 3"]:
        """Undo each camera's lens: unit directions in the camera, NaN where that cannot be done."""
        found = torch.empty(len(plane), 3, dtype=torch.float64)
        for model, row_of_camera, coefficients in self._models:
            rows = row_of_camera[camera_ids]
            mine = (rows >= 0).nonzero().squeeze(-1)
            found[mine] = lenses.unproject(model, plane[mine], coefficients[rows[mine]])
        return found

    @cached_property
    def _turning_rows(self) -> Float32[Tensor, "C 12"]:
        """Columns of the rotation, then the position: one row a camera, so that a batch costs one gather."""
        return self.world_from_camera.transpose(1, 2).reshape(-1, 12).float()

    @cached_property
    def _straight_rows(self) -> Float32[Tensor, "C 12"]:
        """Columns of rotation times inverse intrinsics, then the position."""
        rotation = self.world_from_camera[:, :, :3]
        across = rotation[:, :, 0] / self.focal[:, :1]
        along = rotation[:, :, 1] / self.focal[:, 1:]
        corner = rotation[:, :, 2] - across * self.center[:, :1] - along * self.center[:, 1:]
        return torch.cat([across, along, corner, self.positions], 1).float()

    def _straight_rays(
        self, camera_ids: Int64[Tensor, " R"], pixels: Float[Tensor, "R 2"]
    ) -> tuple[Float32[Tensor, "R 3"], Float32[Tensor, "R 3"]]:
        pixels = pixels.float()
        fits = camera_ids.ndim == 1 and pixels.shape == (len(camera_ids), 2)
        fits = fits and not pixels.requires_grad
        if fits and native.usable(self._straight_rows, camera_ids, pixels):
            camera_ids, pixels = camera_ids.contiguous(), pixels.contiguous()
            origins = pixels.new_empty(len(pixels), 3)
            directions = torch.empty_like(origins)
            inside = native.core().picture_rays(
                self._straight_rows.data_ptr(),
                len(self),
                camera_ids.data_ptr(),
                pixels.data_ptr(),
                len(pixels),
                origins.data_ptr(),
                directions.data_ptr(),
            )
            if not inside:
                raise IndexError(f"there are {len(self)} cameras, and a ray asks for another")
            return origins, directions
        rows = self._straight_rows.index_select(0, camera_ids)
        directions = torch.addcmul(rows[:, 6:9], rows[:, 0:3], pixels[:, :1])
        directions.addcmul_(rows[:, 3:6], pixels[:, 1:])
        directions *= directions.square().sum(1, keepdim=True).rsqrt_()
        return rows[:, 9:].contiguous(), directions

    @cached_property
    def _table(
        self,
    ) -> tuple[Float32[Tensor, "P 3"], Int64[Tensor, " C"], Int64[Tensor, " C"]] | None:
        """Directions in the camera at all pixel centres; each camera's first row and width. None where too large.

        Cameras that share lens, intrinsics and size share their part of the table.
        """
        keys = [
            (
                self.lenses[i],
                *self.focal[i].tolist(),
                *self.center[i].tolist(),
                *self.size[i].tolist(),
            )
            for i in range(len(self))
        ]
        first: dict[Any, int] = {}
        starts: dict[Any, int] = {}
        total = 0
        for i, key in enumerate(keys):
            if key not in first:
                first[key], starts[key] = i, total
                total += int(self.size[i].prod())
        if total * 12 > _TABLE_BYTES:
            return None
        parts = []
        for i in first.values():
            width, height = self.size[i].tolist()
            y, x = torch.meshgrid(
                torch.arange(height, dtype=torch.float64) + 0.5,
                torch.arange(width, dtype=torch.float64) + 0.5,
                indexing="ij",
            )
            plane = (torch.stack([x, y], -1).reshape(-1, 2) - self.center[i]) / self.focal[i]
            lens = self.lenses[i]
            coefficients = torch.tensor(lens.coefficients, dtype=torch.float64)
            exact = lenses.unproject(lens.model, plane, coefficients)
            parts.append(torch.where(torch.isfinite(exact), exact, _FORWARD).float())
        start = torch.tensor([starts[key] for key in keys], dtype=torch.int64)
        return torch.cat(parts), start, self.size[:, 0].contiguous()

    def _from_table(
        self, camera_ids: Int64[Tensor, " R"], pixels: Float[Tensor, "R 2"]
    ) -> Float32[Tensor, "R 3"] | None:
        """Look up directions in the camera; None unless all pixels are pixel centres and there is a table."""
        corner = pixels.floor()
        if not bool((pixels - corner == 0.5).all()):
            return None
        cell = corner.long()
        if bool((cell < 0).any()) or bool((cell >= self.size[camera_ids]).any()):
            return None
        if self._table is None:
            return None
        table, start, width = self._table
        at = start[camera_ids] + cell[:, 1] * width[camera_ids] + cell[:, 0]
        return table.index_select(0, at)


_FORWARD = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
