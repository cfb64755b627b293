"""Samples: the only currency between rays, fields and the compositor."""

from dataclasses import dataclass, replace

from jaxtyping import Float, Int
from torch import Tensor

from polyfield.fields.ops.rows import take_rows

__all__ = ["Samples"]


@dataclass
class Samples:
    """N points along R rays, packed: the samples of ray r are rows ray_offsets[r] to ray_offsets[r + 1].

    Attributes:
        positions: A point of each interval, in world units.
        t0, t1: Where each interval begins and ends along its ray, in world units from the ray's origin; t0 <= t1,
            sorted within a ray, not overlapping.
        ray_offsets: Starts at 0, ends at N, never falls.
        ray_ids: The ray of each sample.
        directions: Unit vectors, one per ray, in the world.
        times: One per ray in [0, 1], or None for a scene that does not move.
        camera_ids: One per ray, or None when no field needs them.
    """

    positions: Float[Tensor, "N 3"]
    t0: Float[Tensor, " N"]
    t1: Float[Tensor, " N"]
    ray_offsets: Int[Tensor, " R1"]
    ray_ids: Int[Tensor, " N"]
    directions: Float[Tensor, "R 3"]
    times: Float[Tensor, " R"] | None = None
    camera_ids: Int[Tensor, " R"] | None = None

    def __len__(self) -> int:
        return int(self.positions.shape[0])

    @property
    def rays(self) -> int:
        """R, rays without samples included."""
        return int(self.directions.shape[0])

    def seen_along(self) -> Float[Tensor, "N 3"]:
        """The direction of each sample's ray."""
        return self.directions.index_select(0, self.ray_ids)

    def take(self, rows: Int[Tensor, " M"], ray_offsets: Int[Tensor, " R1"]) -> "Samples":
        """Keep some samples.

        Args:
            rows: Which ones, in rising order.
            ray_offsets: Where each ray's samples then lie.
        """
        positions, t0, t1, ray_ids = take_rows(rows, self.positions, self.t0, self.t1, self.ray_ids)
        return replace(
            self, positions=positions, t0=t0, t1=t1, ray_offsets=ray_offsets, ray_ids=ray_ids
        )
