"""The task of fitting a radiance field to posed images.

A step renders a batch of rays and keeps nothing for going back, takes the gradient of the loss with respect to each
sample's density and colour from the compositor, and then goes backwards through the field only at the samples that
matter: each is kept with a probability that grows with its gradient and weighted by the inverse, so the expected
gradient is exact. It needs no memory for the other samples and a quarter of the work, whatever the field is made of.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor

from polyfield.datasets.scene import Scene
from polyfield.errors import ConfigError
from polyfield.fields.model import Model, require_pointwise
from polyfield.fields.radiance import RadianceField
from polyfield.fields.registry import ParameterGroup, Prepared, Resize
from polyfield.fields.replay import replay
from polyfield.renderers.volume import VolumeRenderer
from polyfield.training.interest import Interest
from polyfield.training.parts_placement import place_by_density
from polyfield.training.photometric import photometric
from polyfield.training.ray_source import RaySource
from polyfield.training.step_size import SampledTraining, StepSize, draw_backgrounds, draw_important
from polyfield.training.task import StepReport

__all__ = ["RadianceTask", "RadianceTraining", "check_training"]

# Steps until the occupancy grid may know what is empty, and most steps between asking it where in the images there may
# be something. It is not worth it while more than this share of space is occupied, nor to keep a list of more tiles.
_FIRST_LOOK, _LOOK_EVERY = 384, 1024
_CROWDED = 0.5
_MOST_TILES = 1 << 22


@dataclass(frozen=True)
class RadianceTraining(SampledTraining):
    """How a radiance field is trained on images.

    Attributes:
        rate, head_rate, warmup, hold, final_rate: As of `Rates`.
        samples, growth, roulette, huber, min_transmittance, prune: As of `SampledTraining`.
        coarse: Fraction of the run that marches with double steps.
        refresh: Steps between updates of the occupancy grid.
        hull: Whether to carve the grid from alpha, where the images have it, before the first step.
        place: Fraction of the run after which parts that are placed by data (NeuRBF's kernels) are: until then the
            rest of the field learns where something is.
    """

    coarse: float = 0.6
    refresh: int = 32
    hull: bool = True
    place: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_counts(refresh=1 << 24)
        self._check_shares("coarse", "place")


def check_training(model: Model, training: RadianceTraining) -> RadianceField:
    """Refuse to train a model in a way that does not suit it.

    Args:
        model: What is trained; its weights are not looked at, and may be on torch's device "meta".
        training: How.

    Returns:
        The model's field.

    Raises:
        ConfigError: It is of another kind, or samples would be left out of rays that it has to see as a whole.
        InputError: It has no value at a single point, but a part that is placed by such values.
    """
    field = model.module
    if not isinstance(field, RadianceField):
        raise ConfigError(f"Posed images train a radiance field, not a model of kind {model.kind}.")
    if not field.pointwise and training.roulette < 1:
        raise ConfigError(
            "This field looks at all samples of a ray together, so none may be left out of the gradient: "
            f"train.roulette must be 1, but is {training.roulette}."
        )
    if _to_place(field):
        require_pointwise(model, "Placing a part by what the field has learnt")
    return field


def _to_place(field: RadianceField) -> list[Prepared]:
    return [part for part in field.parts().values() if isinstance(part, Prepared)]


class RadianceTask:
    """Trains the field of a model on a scene.

    Args:
        model: Of kind "radiance".
        scene: What to fit.
        training: How.
        background: RGB to put behind transparent pixels, or None for a random colour for each ray, which teaches the
            field to be transparent there.
        seed: Of rays, jitter and backgrounds.
    """

    def __init__(
        self,
        model: Model,
        scene: Scene,
        training: RadianceTraining,
        background: tuple[float, float, float] | None,
        seed: int,
    ) -> None:
        self.field = check_training(model, training)
        self.model = model
        self.renderer = VolumeRenderer(model)
        self.training = training
        self._scene = scene
        self._background = background
        self._hull = training.hull and scene.images.has_alpha and scene.cameras.straight
        self._source = RaySource(scene, seed)
        # When to ask the occupancy grid what may be seen in the images: carved, it knows at once.
        bounded = self.renderer.grid.levels == 1 and scene.cameras.straight
        self._next_look = None if not bounded else 0 if self._hull else _FIRST_LOOK
        self._generator = Generator().manual_seed(seed + 1)
        # Without a hull every cell is occupied at first, and a ray takes hundreds of samples.
        self._size = StepSize(training, each=512)
        self._placed = not _to_place(self.field)

    def groups(self) -> list[ParameterGroup]:
        """The field's groups; those of dense parameters at the heads' rate."""
        return self.training.of(self.field.groups())

    def prepare(self) -> list[Resize]:
        """Carve the occupancy grid from alpha, or begin with all of it occupied."""
        if self._hull:
            self.renderer.carve(self._scene)
            self._size.start(each=16)
        return []

    def gradients(self, step: int, progress: float) -> StepReport:
        """Render a batch and back-propagate its error."""
        self._look_for_interest(step)
        batch = self._source.next(self._size.rays)
        jitter = torch.rand(len(batch), generator=self._generator)
        coarse = 2.0 if progress < self.training.coarse else 1.0

        background = draw_backgrounds(self._background, len(batch), self._generator)
        traced = self.renderer.trace(
            batch.origins,
            batch.directions,
            self.training.min_transmittance,
            jitter,
            coarse,
            keep_encoded=True,
        )
        seen = photometric(traced, batch, background, self.training.huber)
        kept, weights = draw_important(seen.importance, self.training.roulette, self._generator)
        replay(
            self.field,
            traced.samples,
            kept,
            weights,
            seen.sigma_gradient,
            seen.color_gradient,
            traced.encoded,
        )
        self.field.regularise(progress)
        self._size.adapt(len(batch), len(traced.samples), progress)
        return StepReport(seen.loss, seen.error, traced.evaluated, len(batch))

    def after_step(self, step: int, progress: float) -> list[Resize]:
        """Refresh the occupancy grid from time to time, often while the field is young; let the field grow."""
        early = step < 256 and step % max(1, self.training.refresh // 2) == 0
        if early or step % self.training.refresh == 0:
            self.renderer.refresh(self._generator, warm=step < 256)
        if not self._placed and progress >= self.training.place:
            self._placed = True
            place_by_density(_to_place(self.field), self.renderer, self._generator)
        return self.field.after_step(progress, self.renderer.occupied)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Occupancy, generators and the place in the stream of rays."""
        tensors = {f"renderer.{k}": v for k, v in self.renderer.training_state().items()}
        tensors["generator"] = self._generator.get_state()
        source = self._source
        facts: dict[str, Any] = {
            "block": source.block,
            "offset": source.offset,
            "rays": self._size.rays,
            "placed": self._placed,
        }
        if self._next_look is not None:
            facts["next_look"] = self._next_look
            if source.interest is not None:
                tensors["tiles"], tensors["tile_starts"] = (
                    source.interest.tiles,
                    source.interest.starts,
                )
        return tensors, facts

    def load_state(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Take back what `state` gave.

        Raises:
            ValueError: It is none that this task could have reached.
        """
        rays = StepSize.check(int(facts["rays"]))
        prefix = "renderer."
        self.renderer.load_training_state(
            {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        )
        self._generator.set_state(tensors["generator"])
        if self._next_look is not None:
            self._next_look = int(facts.get("next_look", _FIRST_LOOK))
            if "tiles" in tensors:
                self._source.interest = Interest(
                    tensors["tiles"], tensors["tile_starts"], self._scene.images.sizes
                )
        self._source.seek(int(facts["block"]), int(facts["offset"]))
        self._size.rays = rays
        self._placed = bool(facts.get("placed", True))

    def finish(self) -> None:
        """Give the model the occupancy that was learnt."""
        self.model.renderer_state = self.renderer.state()

    def _look_for_interest(self, step: int) -> None:
        """Draw rays only where there are occupied cells before a pixel, from time to time decided anew.

        A ray that meets none teaches nothing. Cells that are found beside those that were occupied have their tiles;
        what is found elsewhere waits for the next look.
        """
        if self._next_look is None or step < self._next_look or not self._source.at_block:
            return
        self._next_look = min(max(_FIRST_LOOK, 2 * step), step + _LOOK_EVERY)
        carved = step == 0  # then nothing else can ever be occupied
        grid = self.renderer.grid
        centers, radius = grid.occupied_balls(beside=0 if carved else 1)
        if 8 * len(centers) > _CROWDED * grid.values.numel():
            return
        views = self._scene.split["train"]
        interest = Interest.of(self._scene, views, centers, radius)
        self._source.interest = interest if len(interest.tiles) <= _MOST_TILES else None
