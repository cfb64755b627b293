"""What a teacher shows, how far a student is from it, and what that is worth to each sample.

A student is compared at three levels (Fang et al. 2023, "One is all", section 3.3): by the features that both decode
colours from, by density and colour of each sample, by the colour of each ray. All three end up as gradients to what the
student says of the samples, so that one way back through the field serves them all.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int64
from torch import Generator, Tensor

from polyfield.fields.evaluate import Evaluated
from polyfield.fields.ops.rows import take_rows
from polyfield.fields.samples import Samples
from polyfield.renderers.trace import Traced
from polyfield.training.photometric import photometric
from polyfield.training.ray_source import RayBatch
from polyfield.training.step_size import draw_important

__all__ = ["Comparison", "Lesson", "Levels", "compare_with", "point_loss", "transmittance"]

_THIN = 0.3  # density per domain that counts as none: whether something is thinner does not show
_FAR = (
    1.0  # difference of log densities, and of features, at which a loss turns from square to linear
)
_EMPTY = 0.1  # what a sample is worth that can be seen through, beside one that is all that its ray shows


@dataclass(frozen=True)
class Lesson:
    """R rays and what a teacher says of them.

    Attributes:
        batch: The rays and their colours, premultiplied by alpha.
        samples: N of them: all that can be seen.
        sigma, color: The teacher's, of each sample.
        visible: Transmittance of the teacher before each sample.
        weights: How much each sample adds to its ray.
        features: What the teacher's density head gives; None where the student's mean something else.
        parts: In which part of which picture each ray lies, as `WeakSpots.parts_of` numbers them.
        whole: Whether all samples are there, so that rays can be compared; else those that are there have the light and
            the weights of those that are not, in the mean.
    """

    batch: RayBatch
    samples: Samples
    sigma: Float[Tensor, " N"]
    color: Float[Tensor, "N 3"]
    visible: Float[Tensor, " N"]
    weights: Float[Tensor, " N"]
    features: Float[Tensor, "N F"] | None
    parts: Int64[Tensor, " R"]
    whole: bool = True

    def thinned(self, share: float, generator: Generator) -> "Lesson":
        """Draw a share of the samples, those that show most more likely, before anybody is asked about them.

        Where little is to be seen little is to be learnt: most of what a ray shows is in a fifth of its samples. The
        point level of PVD-AL (Fang et al. 2024) keeps the largest weights; drawn ones leave the loss what it was in
        the mean.
        """
        kept, factors = draw_important(self.weights + _EMPTY * self.visible, share, generator)
        sigma, color, visible, weights = take_rows(
            kept, self.sigma, self.color, self.visible, self.weights
        )
        return replace(
            self,
            samples=self.samples.take(kept, torch.searchsorted(kept, self.samples.ray_offsets)),
            sigma=sigma,
            color=color,
            visible=visible * factors,
            weights=weights * factors,
            features=None if self.features is None else self.features.index_select(0, kept),
            whole=False,
        )


@dataclass(frozen=True)
class Levels:
    """How much each level counts.

    Attributes:
        features, density, color: Of samples.
        picture: Of rays.
    """

    features: float
    density: float
    color: float
    picture: float


@dataclass(frozen=True)
class Comparison:
    """The loss of a lesson, and its gradients.

    Attributes:
        loss: Of the rays, as `photometric` has it; of samples alone, as `error`.
        error: Mean square error of the rays' colours; where not all samples are there, that of the samples' colours by
            what they add to a ray.
        sigma_gradient, color_gradient, features_gradient: Of the loss of all levels, with respect to what the student
            says of each sample; that to features is None where they are not compared.
        importance: Size of these as the field's last layers see them, as in `photometric`.
    """

    loss: float
    error: float
    sigma_gradient: Float[Tensor, " N"]
    color_gradient: Float[Tensor, "N 3"]
    features_gradient: Float[Tensor, "N F"] | None
    importance: Float[Tensor, " N"]


def transmittance(
    sigma: Float[Tensor, " N"], samples: Samples
) -> tuple[Float[Tensor, " N"], Float[Tensor, " N"]]:
    """How much light is left before each sample, and how much of it the sample takes.

    Args:
        sigma: Density of each sample.
        samples: All samples of their rays up to the last one given.

    Example:
        >>> t = torch.tensor([0.0, 1.0])
        >>> offsets, ids = torch.tensor([0, 2]), torch.zeros(2, dtype=torch.int32)
        >>> two = Samples(torch.zeros(2, 3), t, t + 1, offsets, ids, torch.ones(1, 3))
        >>> left, taken = transmittance(torch.tensor([torch.inf, 1.0]), two)
        >>> left.tolist(), taken[:1].tolist()
        ([1.0, 0.0], [1.0])
    """
    depth = (sigma * (samples.t1 - samples.t0)).double().clamp(0.0, 1e3)
    through = torch.cat([depth.new_zeros(1), depth.cumsum(0)])
    begun = through.index_select(0, samples.ray_offsets[:-1])
    before = through[:-1] - begun.index_select(0, samples.ray_ids.long())
    left = torch.exp(-before)
    return left.to(sigma.dtype), (left * -torch.expm1(-depth)).to(sigma.dtype)


def compare_with(
    lesson: Lesson,
    seen: Evaluated,
    levels: Levels,
    background: Float[Tensor, "R 3"],
    delta: float,
    scale: float,
) -> Comparison:
    """Compare a student with its teacher at a lesson.

    Args:
        lesson: What the teacher says.
        seen: What the student says of the same samples.
        levels: How much each level counts; the picture does not where the lesson is not whole.
        background: Behind the rays of both.
        delta: Where the loss of colours turns from square to linear.
        scale: Length of the domain, world units.
    """
    rays = len(lesson.batch)
    thin = seen.sigma + _THIN / scale
    apart = torch.log(thin / (lesson.sigma + _THIN / scale)) / _FAR
    to_sigma = lesson.visible * apart.clamp_(-1.0, 1.0) / thin
    to_sigma.mul_(levels.density / rays)
    to_color = (seen.color - lesson.color).clamp_(-delta, delta) * lesson.weights[:, None]
    to_color.mul_(levels.color / (3 * delta * rays))
    if lesson.whole:
        shown = Traced(lesson.samples, seen.sigma, seen.color, len(lesson.samples))
        rendered = photometric(shown, lesson.batch, background, delta)
        to_sigma.add_(rendered.sigma_gradient, alpha=levels.picture)
        to_color.add_(rendered.color_gradient, alpha=levels.picture)
        loss, error = rendered.loss, rendered.error
    else:
        squares = (seen.color - lesson.color).square_().mean(1)
        loss = error = float(torch.dot(squares, lesson.weights)) / rays
    importance = (to_sigma * seen.sigma).abs_()
    importance.add_((to_color * seen.color * (1.0 - seen.color)).abs_().sum(1))
    to_features = None
    if lesson.features is not None and levels.features > 0:
        wide = lesson.features.shape[1]
        to_features = ((seen.features - lesson.features) / _FAR).clamp_(-1.0, 1.0)
        to_features.mul_(lesson.weights[:, None]).mul_(levels.features / (wide * rays))
        importance.add_(to_features.abs().sum(1))
    return Comparison(loss, error, to_sigma, to_color, to_features, importance)


def point_loss(
    lesson: Lesson,
    sigma: Float[Tensor, " N"],
    color: Float[Tensor, "N 3"],
    features: Float[Tensor, "N F"],
    levels: Levels,
    delta: float,
    scale: float,
) -> Float[Tensor, ""]:
    """Compute the loss of the levels of samples: the oracle of `compare_with`, but for what rays show.

    Per ray, and summed over its samples: Huber's loss of log densities where the sample can be seen; of colours, and of
    features, by how much the sample adds to its ray.
    """
    rays, huber = len(lesson.batch), torch.nn.functional.huber_loss
    floor = _THIN / scale
    mine, theirs = torch.log(sigma + floor), torch.log(lesson.sigma + floor)
    each = huber(mine, theirs, delta=_FAR, reduction="none") / _FAR
    loss = levels.density * (lesson.visible * each).sum()
    each = huber(color, lesson.color, delta=delta, reduction="none").mean(1) / delta
    loss = loss + levels.color * (lesson.weights * each).sum()
    if lesson.features is not None:
        each = huber(features, lesson.features, delta=_FAR, reduction="none").mean(1) / _FAR
        loss = loss + levels.features * (lesson.weights * each).sum()
    return loss / rays
