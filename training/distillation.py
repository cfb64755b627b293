"""The task of teaching a radiance field what another one shows: progressive volume distillation.

The teacher traces rays and says what it sees; the student is asked about the very same samples, compared at all levels
that both have (see `polyfield.training.lesson`), and gone through backwards at the samples that matter. No image is
needed, and no search for what is empty: the teacher's occupancy is the student's.

See: Fang et al. (2023), "One is all: bridging the gap between neural radiance fields architectures with progressive
volume distillation".
"""

import math
import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor

from polyfield.errors import ConfigError
from polyfield.fields.construct import construct
from polyfield.fields.evaluate import evaluate
from polyfield.fields.model import Model, require_pointwise
from polyfield.fields.radiance import RadianceField
from polyfield.fields.registry import ParameterGroup, Prepared, Resize
from polyfield.fields.replay import replay
from polyfield.renderers.volume import VolumeRenderer
from polyfield.training.lesson import Levels, compare_with
from polyfield.training.parts_placement import place_by_density
from polyfield.training.step_size import SampledTraining, StepSize, draw_backgrounds, draw_important
from polyfield.training.task import StepReport
from polyfield.training.teacher import Lessons

__all__ = ["Distillation", "DistillationTask", "copy_parts", "same_features"]

_PACE_RAYS, _MOST_USES = 2048, 16
_STEP = 2.5  # what a step costs, in evaluations of its samples
_WORN = 6.0  # uses after which a lesson teaches half as much
_FADE = 0.1  # fraction of the run after which features count a third of what they did


@dataclass(frozen=True)
class Distillation(SampledTraining):
    """How a student is taught.

    Attributes:
        rate, head_rate, warmup, hold, final_rate: As of `Rates`.
        samples, growth, roulette, huber, min_transmittance, prune: As of `SampledTraining`.
        uses: How often a lesson is taken in the mean; where time is what is planned, `DistillationTask.pace` sets it.
        features, density, color: How much these count at each sample; features soon count for less.
        picture: How much the colours of rays count.
        pictures: Fraction of the run after which they do.
        points: Share of a lesson's samples, those that show most, that the student is asked about until then. For
            students that take long to answer.
        active: Share of a lesson's rays that look where the student was most wrong.
        told: Whether the student begins with all that it can be told; else only with parts that both have.
    """

    uses: int = 2
    features: float = 1.0
    density: float = 0.01
    color: float = 1.0
    picture: float = 1.0
    pictures: float = 0.0
    points: float = 1.0
    active: float = 0.5
    told: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_counts(uses=1 << 10)
        self._check_shares("pictures", "points", "active")
        self._check_positive("points")
        for name in ("features", "density", "color", "picture"):
            if not 0 <= getattr(self, name) <= 1e6:
                raise ConfigError(
                    f"train.{name} must be in [0, 1e6], but is {getattr(self, name)}."
                )

    def levels(self, progress: float) -> Levels:
        """How much each level counts at a progress in [0, 1]."""
        return Levels(
            features=self.features * math.exp(-progress / _FADE),
            density=self.density,
            color=self.color,
            picture=self.picture if progress >= self.pictures else 0.0,
        )


def same_features(teacher: RadianceField, student: RadianceField) -> bool:
    """Whether colours are decoded from the features of both fields by heads of the same kind and sizes.

    Then what one field's features mean, the other's can.
    """
    fields = (teacher, student)
    if any(field.appearance_encoder is not None for field in fields):
        return False
    return all(
        _alike(getattr(teacher, slot), getattr(student, slot))
        and getattr(teacher.config, slot) == getattr(student.config, slot)
        for slot in ("direction_encoder", "color_head")
    )


def copy_parts(teacher: RadianceField, student: RadianceField) -> list[str]:
    """Give a student the teacher's weights of all parts that both have, of the same kind and the same sizes.

    Returns:
        The names of these parts.
    """
    mine, theirs = student.parts(), teacher.parts()
    shared = [
        name
        for name, part in mine.items()
        if name in theirs
        and getattr(teacher.config, name) == getattr(student.config, name)
        and _alike(theirs[name], part)
    ]
    for name in shared:
        mine[name].load_state_dict(theirs[name].state_dict())
    return [name for name in shared if mine[name].state_dict()]


def _alike(one: Any, other: Any) -> bool:
    if one is None or other is None:
        return one is other
    shapes = [{n: t.shape for n, t in part.state_dict().items()} for part in (one, other)]
    return shapes[0] == shapes[1]


class DistillationTask:
    """Teaches the field of a model.

    Args:
        model: The student, of kind "radiance", pointwise, with the domain and the renderer's settings of the teacher.
        lessons: Of the teacher.
        training: How.
        background: RGB behind the rays of both, or None for a random colour for each ray, which teaches the student
            to be transparent where the teacher is.
        seed: Of backgrounds and choices.
    """

    def __init__(
        self,
        model: Model,
        lessons: Lessons,
        training: Distillation,
        background: tuple[float, float, float] | None,
        seed: int,
    ) -> None:
        require_pointwise(model, "Conversion")
        self.model, self.training = model, training
        self.renderer = VolumeRenderer(model)
        self.field = self.renderer.field
        self.renderer.load_state(lessons.renderer.state())
        self._lessons, self._background = lessons, background
        self._generator = Generator().manual_seed(seed + 1)
        self._size = StepSize(training, each=16)

    def groups(self) -> list[ParameterGroup]:
        """The field's groups; those of dense parameters at the heads' rate."""
        return self.training.of(self.field.groups())

    def prepare(self) -> list[Resize]:
        """Begin with what the teacher knows: parts that both have, where something is, what grids can be told."""
        teacher = self._lessons.renderer
        copied = copy_parts(teacher.field, self.field)
        if not self.training.told:
            return []
        parts = self.field.parts()
        place = [p for n, p in parts.items() if isinstance(p, Prepared) and n not in copied]
        if place:
            place_by_density(place, teacher, self._generator)
        if "encoder" in copied:
            return []
        return construct(self.field, teacher.field, self.renderer.occupied)

    def pace(self) -> int:
        """Set how often lessons are taken, by what they cost: those of a slow teacher more often.

        Returns:
            How often.
        """
        spent = []
        for _ in range(2):  # the first time pays for what is made once
            begun = time.perf_counter()
            lesson = self._lessons.first(_PACE_RAYS)
            asked = time.perf_counter()
            evaluate(self.field, lesson.samples)
            spent.append((asked - begun, time.perf_counter() - asked))
        shown, learnt = spent[-1]
        # A step costs its share of a lesson and the student's part, and is worth 1 / (1 + uses / _WORN): what costs
        # least for what it is worth is the root.
        uses = round(math.sqrt(_WORN * shown / max(_STEP * learnt, 1e-9)))
        self._lessons.uses = min(max(uses, 1), _MOST_USES)
        return self._lessons.uses

    def gradients(self, step: int, progress: float) -> StepReport:
        """Take a lesson, and back-propagate what was wrong."""
        lesson = self._lessons.at(step, self._size.rays)
        if self.training.points < 1.0 and progress < self.training.pictures:
            lesson = lesson.thinned(self.training.points, self._generator)
        samples, rays = lesson.samples, len(lesson.batch)
        seen = evaluate(self.field, samples, keep_encoded=True)
        compared = compare_with(
            lesson,
            seen,
            self.training.levels(progress),
            draw_backgrounds(self._background, rays, self._generator),
            self.training.huber,
            self.field.domain.scale,
        )
        if self.training.active:
            wrong = torch.zeros(rays).index_add_(0, samples.ray_ids.long(), compared.importance)
            self._lessons.weak_spots.note(lesson.parts, wrong)
        share = self.training.roulette
        kept, weights = draw_important(compared.importance, share, self._generator)
        replay(
            self.field,
            samples,
            kept,
            weights,
            compared.sigma_gradient,
            compared.color_gradient,
            seen.encoded,
            compared.features_gradient,
        )
        self.field.regularise(progress)
        self._size.adapt(rays, len(samples), progress)
        return StepReport(compared.loss, compared.error, len(samples), rays)

    def after_step(self, step: int, progress: float) -> list[Resize]:
        """Let the field grow."""
        del step
        return self.field.after_step(progress, self.renderer.occupied)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The generator, how many rays each lesson has, and where the student is weak."""
        weak, turn = self._lessons.weak_spots.state()
        facts = {"rays": self._size.rays, "lessons": list(self._lessons.rays), "turn": turn}
        return {"generator": self._generator.get_state(), "weak_spots": weak}, facts

    def load_state(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Take back what `state` gave.

        Raises:
            ValueError: It is none that this task could have reached.
        """
        rays = StepSize.check(int(facts["rays"]))
        lessons = [StepSize.check(int(count)) for count in facts["lessons"]]
        self._lessons.weak_spots.load_state(tensors["weak_spots"], int(facts["turn"]))
        self._lessons.rays = lessons
        self._size.rays = rays
        self._generator.set_state(tensors["generator"])

    def finish(self) -> None:
        """Give the model the occupancy."""
        self.model.renderer_state = self.renderer.state()
