"""Lessons: the same for the same number, taken as often as is said; and where they are looked at from."""

from collections import Counter

import pytest
import torch
from torch import Generator, Tensor

from polyfield.datasets.builtin import builtin_scene
from polyfield.fields.model import Model, build_model
from polyfield.fields.presets import preset
from polyfield.renderers.composite import composite_reference
from polyfield.training.capture import describe_capture
from polyfield.training.lesson import Lesson
from polyfield.training.placement import place
from polyfield.training.teacher import Lessons
from polyfield.training.viewpoints import CameraViews, around, viewpoints


@pytest.fixture(scope="module")
def teacher() -> Model:
    """Untrained: a fog that is everywhere."""
    scene = builtin_scene(views=8, size=32)
    domain, render, _ = place(scene)
    field = preset("hashgrid")["field"]
    field["encoder"] |= {"log2_table": 12}
    render |= {"steps": 64, "resolution": 16}
    model = build_model("radiance", {"field": field, "domain": domain, "render": render})
    model.capture, model.info = describe_capture(scene)
    return model


def lessons(teacher: Model, uses: int = 2, seed: int = 0, active: float = 0.0) -> Lessons:
    return Lessons(
        *(teacher, viewpoints(teacher), seed),
        uses=uses,
        min_transmittance=1e-3,
        features=True,
        active=active,
    )


def rays(views: CameraViews, count: int) -> tuple[Tensor, Tensor]:
    generator = Generator().manual_seed(0)
    return views.through(*views.choose(count, generator), generator)


def same(one: Lesson, other: Lesson) -> bool:
    pairs = (
        (one.samples.positions, other.samples.positions),
        (one.sigma, other.sigma),
        (one.batch.color, other.batch.color),
    )
    return all(a.shape == b.shape and torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("uses", [1, 3])
def test_a_lesson_is_taken_as_often_as_is_said(teacher: Model, uses: int) -> None:
    steps = 60
    given = lessons(teacher, uses)
    taken = [given.at(step, 64) for step in range(steps)]
    assert len(given.rays) == steps // uses
    counts = Counter(id(lesson) for lesson in taken)
    assert len(counts) == steps // uses
    assert sum(counts.values()) / len(counts) == uses


def test_a_run_that_goes_on_has_the_same_lessons(teacher: Model) -> None:
    whole = lessons(teacher)
    taken = [whole.at(step, 64 + step) for step in range(40)]
    later = lessons(teacher)
    later.rays = list(whole.rays[:15])  # those of steps 0 to 29
    for step in range(30, 40):
        assert same(later.at(step, 64 + step), taken[step])
    assert not same(lessons(teacher, seed=1).at(0, 64), taken[0])


def test_an_active_run_that_goes_on_has_the_same_lessons(teacher: Model) -> None:
    def told(given: Lessons, step: int) -> Lesson:
        lesson = given.at(step, 64)
        given.weak_spots.note(lesson.parts, lesson.batch.color.sum(1))
        return lesson

    whole = lessons(teacher, active=0.5)
    for step in range(140):
        told(whole, step)
    later = lessons(teacher, active=0.5)
    later.rays = list(whole.rays)
    later.weak_spots.load_state(*whole.weak_spots.state())
    for step in range(140, 280):  # lessons 70 to 139: from the second turn to the third
        assert same(told(later, step), told(whole, step))
    passive = lessons(teacher)
    passive.rays = list(whole.rays)
    assert not same(passive.at(278, 64), whole.at(278, 64))


def test_a_lesson_says_what_the_teacher_shows(teacher: Model) -> None:
    lesson = lessons(teacher).at(0, 200)
    samples, black = lesson.samples, torch.zeros(200, 3)
    seen = composite_reference(
        *(lesson.sigma, lesson.color, samples.t0, samples.t1, samples.ray_offsets, black)
    )
    torch.testing.assert_close(lesson.batch.color, seen.color, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(lesson.batch.alpha, seen.opacity, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(lesson.weights, seen.weights, rtol=1e-3, atol=1e-6)
    assert lesson.features is not None
    assert lesson.features.shape == (len(samples), 16)


def test_rays_begin_near_the_cameras_of_the_capture(teacher: Model) -> None:
    cameras = builtin_scene(views=8, size=32).cameras
    train = teacher.info["split"]["train"]
    origins, directions = rays(viewpoints(teacher), 4000)
    torch.testing.assert_close(directions.norm(dim=1), torch.ones(4000))
    places = cameras.positions[train].float()
    nearest = torch.cdist(origins, places).amin(1)
    gaps = torch.cdist(places, places).fill_diagonal_(9e9).amin(1)
    assert 0.1 * gaps.mean() < nearest.mean() < gaps.mean()
    exact, _ = rays(viewpoints(teacher, (cameras, list(train))), 100)
    assert torch.cdist(exact, places).amin(1).max() < 1e-3


def test_from_around_all_of_the_box_is_seen(teacher: Model) -> None:
    cameras = around(teacher)
    render = teacher.config["render"]
    low, high = torch.tensor(render["low"]), torch.tensor(render["high"])
    corners = torch.cartesian_prod(*torch.stack([low, high]).T)
    for corner in corners:
        ids = torch.arange(len(cameras))
        pixels = cameras.project(corner.expand(len(cameras), 3), ids)
        assert ((pixels > 0) & (pixels < cameras.size)).all()
    empty = build_model("radiance", {k: teacher.config[k] for k in ("field", "domain", "render")})
    origins, _ = rays(viewpoints(empty), 100)
    assert ((origins - (low + high) / 2).norm(dim=1) > (high - low).norm() / 2).all()
