"""The lessons of a teacher, in the order in which a student takes them.

Lessons are numbered, and each is made from its number alone, so that a run that goes on has the same ones. Making one
costs the teacher a trace: it is used several times, mixed with others, before it is let go.
"""

from typing import Protocol

import torch
from jaxtyping import Float, Int64
from torch import Generator, Tensor

from polyfield.fields.evaluate import evaluate
from polyfield.fields.model import Model, require_pointwise
from polyfield.renderers.composite import composite
from polyfield.renderers.volume import VolumeRenderer
from polyfield.training.lesson import Lesson, transmittance
from polyfield.training.ray_source import RayBatch
from polyfield.training.weak_spots import WeakSpots

__all__ = ["Lessons", "Viewpoints"]

_WINDOW = 48  # lessons from which one is taken again: no more than `WeakSpots` has a turn
_TRIED, _TRACE = (
    8192,
    1e-3,
)  # rays that should meet something, and what is nothing: a quarter of a step between colours


class Viewpoints(Protocol):
    """Where to look from: some cameras."""

    def __len__(self) -> int: ...

    def choose(
        self, count: int, generator: Generator
    ) -> tuple[Int64[Tensor, " R"], Float[Tensor, "R 2"]]:
        """Draw cameras, and places in their pictures, from 0 to below 1 along each side."""
        ...

    def through(
        self, chosen: Int64[Tensor, " R"], places: Float[Tensor, "R 2"], generator: Generator
    ) -> tuple[Float[Tensor, "R 3"], Float[Tensor, "R 3"]]:
        """Make rays through these: origins, and unit directions."""
        ...


class Lessons:
    """What a teacher shows.

    Args:
        teacher: A pointwise radiance model; it is not changed, and its parameters need no gradient any more.
        viewpoints: Where to look from.
        seed: Of everything random.
        uses: How often a lesson is taken in the mean: 1 or more.
        min_transmittance: What is behind this is not shown.
        features: Whether the student wants the teacher's features.
        active: Share of the rays that look where the student was most wrong, as it is told to `weak_spots`.

    Attributes:
        uses: As given; may be changed before the first lesson.
        renderer: Of the teacher.
        rays: Number of rays of each lesson so far.
        weak_spots: Of the student.
    """

    def __init__(
        self,
        teacher: Model,
        viewpoints: Viewpoints,
        seed: int,
        *,
        uses: int,
        min_transmittance: float,
        features: bool,
        active: float = 0.0,
    ) -> None:
        require_pointwise(teacher, "Conversion")
        self.renderer = VolumeRenderer(teacher)
        self.renderer.field.requires_grad_(False)
        self._viewpoints, self._seed, self.uses = viewpoints, seed, uses
        self._min_transmittance, self._features = min_transmittance, features
        self._active, self.weak_spots = active, WeakSpots(len(viewpoints))
        self._kept: dict[int, Lesson] = {}
        self.rays: list[int] = []

    def at(self, step: int, rays: int) -> Lesson:
        """Give the lesson of a step: from time to time a new one, else one of the last ones.

        Args:
            step: Asked for one after the other.
            rays: Of a new one.
        """
        newest = step // self.uses
        if newest == len(self.rays):
            self.rays.append(rays)
        if step % self.uses:
            generator = self._generator(step, 1)
            newest -= int(torch.randint(min(_WINDOW, newest + 1), (), generator=generator))
        if newest not in self._kept:
            self._kept[newest] = self._make(newest, self.rays[newest])
            for old in [number for number in self._kept if number <= step // self.uses - _WINDOW]:
                del self._kept[old]
        return self._kept[newest]

    def show_something(self) -> bool:
        """Whether a ray of some thousand meets more than a trace of density."""
        generator = self._generator(0, 1)
        rays = self._viewpoints.through(*self._viewpoints.choose(_TRIED, generator), generator)
        traced = self.renderer.trace(*rays, self._min_transmittance)
        _, weights = transmittance(traced.sigma, traced.samples)
        return bool((weights > _TRACE).any())

    def first(self, rays: int) -> Lesson:
        """Make the first lesson, only for looking."""
        return self._make(0, rays)

    @torch.no_grad()
    def _make(self, number: int, rays: int) -> Lesson:
        generator = self._generator(number, 0)
        views, places = self._viewpoints.choose(rays, generator)
        weak = round(self._active * rays)
        worst = self.weak_spots.draw(number, weak, generator) if weak else None
        if worst is not None:
            views[:weak], places[:weak] = worst
        origins, directions = self._viewpoints.through(views, places, generator)
        jitter = torch.rand(len(origins), generator=generator)
        traced = self.renderer.trace(origins, directions, self._min_transmittance, jitter)
        samples = traced.samples
        seen = composite(
            traced.sigma,
            traced.color,
            samples.t0,
            samples.t1,
            samples.ray_offsets,
            torch.zeros_like(origins),
        )
        camera = torch.zeros(len(origins), dtype=torch.int64)
        visible, weights = transmittance(traced.sigma, samples)
        return Lesson(
            RayBatch(origins, directions, seen.color, seen.opacity, None, camera),
            samples,
            traced.sigma,
            traced.color,
            visible,
            weights,
            evaluate(self.renderer.field, samples).features if self._features else None,
            WeakSpots.parts_of(views, places),
        )

    def _generator(self, number: int, stream: int) -> Generator:
        # torch's generator takes 32 bits of seed: odd factors spread numbers over them.
        mixed = self._seed * 2654435761 + (2 * number + stream) * 2246822519
        return Generator().manual_seed(mixed % (1 << 32))
