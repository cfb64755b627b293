"""What a lesson is worth: light that is left, and gradients that are those of the loss."""

from dataclasses import replace

import pytest
import torch
from torch import Generator, Tensor

from polyfield.fields.evaluate import Evaluated
from polyfield.fields.samples import Samples
from polyfield.renderers.composite import composite_reference
from polyfield.renderers.trace import Traced
from polyfield.training.lesson import Lesson, Levels, compare_with, point_loss, transmittance
from polyfield.training.photometric import photometric_reference
from polyfield.training.ray_source import RayBatch

RAYS, FEATURES = 40, 5


def uniform(seed: int, *shape: int) -> Tensor:
    return torch.rand(*shape, generator=Generator().manual_seed(seed))


def some_samples() -> Samples:
    counts = torch.randint(0, 9, (RAYS,), generator=Generator().manual_seed(1))
    offsets = torch.zeros(RAYS + 1, dtype=torch.int64)
    offsets[1:] = counts.cumsum(0)
    n = int(offsets[-1])
    ids = torch.repeat_interleave(torch.arange(RAYS, dtype=torch.int32), counts)
    t0 = 0.1 * (torch.arange(n) - offsets[ids.long()])
    return Samples(uniform(2, n, 3), t0, t0 + 0.1, offsets, ids, uniform(3, RAYS, 3))


def a_lesson() -> Lesson:
    samples = some_samples()
    n = len(samples)
    sigma, color = 20 * uniform(4, n) ** 4, uniform(5, n, 3)
    seen = composite_reference(
        *(sigma, color, samples.t0, samples.t1, samples.ray_offsets, torch.zeros(RAYS, 3))
    )
    nowhere = torch.zeros(RAYS, 3)
    batch = RayBatch(
        nowhere, nowhere, seen.color, seen.opacity, None, torch.zeros(RAYS, dtype=torch.int64)
    )
    visible, weights = transmittance(sigma, samples)
    parts = torch.arange(RAYS)
    features = uniform(6, n, FEATURES)
    return Lesson(batch, samples, sigma, color, visible, weights, features, parts)


def a_student(lesson: Lesson) -> Evaluated:
    n = len(lesson.samples)
    features = 4 * uniform(9, n, FEATURES) - 2  # some farther off than where the loss turns linear
    return Evaluated(20 * uniform(7, n) ** 4, uniform(8, n, 3), features)


def test_transmittance_is_that_of_compositing() -> None:
    lesson = a_lesson()
    samples = lesson.samples
    seen = composite_reference(
        *(lesson.sigma, lesson.color, samples.t0, samples.t1, samples.ray_offsets),
        torch.zeros(RAYS, 3),
    )
    torch.testing.assert_close(lesson.weights, seen.weights, rtol=1e-5, atol=1e-7)
    first = samples.ray_offsets[:-1][samples.ray_offsets.diff() > 0]
    assert (lesson.visible[first] == 1).all()


def test_light_that_is_gone_is_no_nan() -> None:
    samples = some_samples()
    for sigma in (torch.inf, 1e30, 0.0):
        left, taken = transmittance(torch.full((len(samples),), sigma), samples)
        assert torch.isfinite(left).all()
        assert torch.isfinite(taken).all()
        assert ((left >= 0) & (left <= 1) & (taken >= 0) & (taken <= 1)).all()


@pytest.mark.parametrize(
    "levels",
    [
        Levels(features=0.0, density=0.0, color=0.0, picture=1.0),
        Levels(features=0.0, density=0.3, color=0.0, picture=0.0),
        Levels(features=0.0, density=0.0, color=2.0, picture=0.0),
        Levels(features=0.7, density=0.0, color=0.0, picture=0.0),
        Levels(features=0.7, density=0.3, color=2.0, picture=0.5),
    ],
)
def test_gradients_are_those_of_the_loss(levels: Levels) -> None:
    lesson, delta, scale = a_lesson(), 0.1, 2.0
    seen, background = a_student(lesson), uniform(10, RAYS, 3)
    mine = compare_with(lesson, seen, levels, background, delta, scale)
    said = [x.clone().requires_grad_() for x in (seen.sigma, seen.color, seen.features)]
    point_loss(lesson, *said, levels, delta, scale).backward()
    shown = Traced(lesson.samples, seen.sigma, seen.color, len(lesson.samples))
    rendered = photometric_reference(shown, lesson.batch, background, delta)
    assert mine.loss == pytest.approx(rendered.loss, rel=1e-5)
    wanted = [
        said[0].grad + levels.picture * rendered.sigma_gradient,
        said[1].grad + levels.picture * rendered.color_gradient,
        said[2].grad,
    ]
    found = [mine.sigma_gradient, mine.color_gradient, mine.features_gradient]
    for one, other in zip(found, wanted, strict=True):
        if one is None:
            assert levels.features == 0
            assert (other == 0).all()
            continue
        scale_of = float(other.abs().max())
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6 * scale_of)
    touched = sum(g.reshape(len(seen.sigma), -1).abs().sum(1) for g in wanted)
    assert ((mine.importance > 0) == (touched > 0)).float().mean() > 0.99


def test_a_student_that_says_the_same_has_nothing_to_learn() -> None:
    lesson = a_lesson()
    same = Evaluated(lesson.sigma, lesson.color, lesson.features)
    levels = Levels(features=1.0, density=1.0, color=1.0, picture=1.0)
    compared = compare_with(lesson, same, levels, uniform(10, RAYS, 3), 0.1, 2.0)
    assert compared.error < 1e-12
    # What is composited twice differs by a rounding of the last bits.
    assert compared.importance.max() < 1e-6


def test_features_that_mean_something_else_are_not_compared() -> None:
    lesson = replace(a_lesson(), features=None)
    levels = Levels(features=1.0, density=1.0, color=1.0, picture=1.0)
    compared = compare_with(lesson, a_student(lesson), levels, uniform(10, RAYS, 3), 0.1, 2.0)
    assert compared.features_gradient is None


def test_thinned_lessons_say_the_same_in_the_mean() -> None:
    lesson, delta, scale = a_lesson(), 0.1, 2.0
    student, background = a_student(lesson), uniform(10, RAYS, 3)
    levels = Levels(features=0.7, density=0.3, color=2.0, picture=0.0)
    whole = compare_with(lesson, student, levels, background, delta, scale)
    generator, n = Generator().manual_seed(11), len(lesson.samples)
    wanted = [whole.sigma_gradient, whole.color_gradient, whole.features_gradient]
    sums = [torch.zeros_like(gradient) for gradient in wanted]
    draws, drawn = 4000, 0
    for _ in range(draws):
        thin = lesson.thinned(0.4, generator)
        rows = lesson_rows(thin, lesson)
        drawn += len(rows)
        said = Evaluated(*(part[rows] for part in (student.sigma, student.color, student.features)))
        found = compare_with(thin, said, levels, background, delta, scale)
        parts = [found.sigma_gradient, found.color_gradient, found.features_gradient]
        for total, part in zip(sums, parts, strict=True):
            total[rows] += part
    assert drawn / draws == pytest.approx(0.4 * n, rel=0.02)
    for total, gradient in zip(sums, wanted, strict=True):
        # Of 4,000 draws: no sample is kept in fewer than one of 50, so its mean is within sqrt(50 / 4000) = 0.11.
        apart = (total / draws - gradient).abs().amax() / gradient.abs().amax()
        assert apart < 0.11


def lesson_rows(thin: Lesson, lesson: Lesson) -> Tensor:
    """Which samples of a lesson were kept: each place is there once."""
    same = (thin.samples.positions[:, None] == lesson.samples.positions).all(2)
    assert (same.sum(1) == 1).all()
    return same.float().argmax(1)


def test_thinned_lessons_keep_rays_and_what_shows_most() -> None:
    lesson = a_lesson()
    thin = lesson.thinned(0.5, Generator().manual_seed(3))
    rows = lesson_rows(thin, lesson)
    assert not thin.whole
    assert thin.samples.rays == RAYS
    assert (thin.samples.ray_ids == lesson.samples.ray_ids[rows]).all()
    counts = thin.samples.ray_offsets.diff()
    assert (counts == torch.bincount(thin.samples.ray_ids.long(), minlength=RAYS)).all()
    assert lesson.weights[rows].mean() > 1.5 * lesson.weights.mean()
    torch.testing.assert_close(thin.color, lesson.color[rows])


def test_nothing_of_an_empty_lesson_is_left() -> None:
    none = torch.zeros(0, dtype=torch.int64)
    lesson = a_lesson()
    offsets = torch.zeros(RAYS + 1, dtype=torch.int64)
    empty = Lesson(
        lesson.batch,
        lesson.samples.take(none, offsets),
        *(part[:0] for part in (lesson.sigma, lesson.color, lesson.visible, lesson.weights)),
        None,
        lesson.parts,
    )
    thin = empty.thinned(0.5, Generator())
    assert len(thin.samples) == 0
    said = Evaluated(thin.sigma, thin.color, torch.zeros(0, FEATURES))
    levels = Levels(features=1.0, density=1.0, color=1.0, picture=1.0)
    assert compare_with(thin, said, levels, uniform(10, RAYS, 3), 0.1, 2.0).error == 0
