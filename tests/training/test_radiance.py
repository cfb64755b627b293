"""The task of fitting a radiance field: how large its steps are."""

import pytest

from polyfield.config import from_json
from polyfield.datasets.builtin import builtin_scene
from polyfield.errors import ConfigError
from polyfield.fields.model import build_model
from polyfield.fields.presets import preset
from polyfield.training.placement import place
from polyfield.training.radiance import RadianceTask, RadianceTraining


def a_task(**training: float) -> RadianceTask:
    scene = builtin_scene(views=6, size=64)
    domain, render, _ = place(scene)
    field = preset("hashgrid")["field"]
    field["encoder"] |= {"log2_table": 12}
    model = build_model("radiance", {"field": field, "domain": domain, "render": render})
    return RadianceTask(model, scene, RadianceTraining(**training), None, seed=0)


@pytest.mark.parametrize("growth", [1.0, 4.0, 0.5])
def test_steps_grow_about_their_mean(growth: float) -> None:
    task = a_task(samples=32768, growth=growth, min_transmittance=0.0)
    task.prepare()
    sizes = []
    for progress in (0.0, 0.5, 1.0):
        # Ten to find the number of rays, then the mean of ten: rays differ in their samples, by a hundredth here.
        steps = [task.gradients(0, progress).samples for _ in range(20)]
        sizes.append(sum(steps[10:]) / 10)
    first, middle, last = sizes
    assert middle == pytest.approx(32768, rel=0.05)
    assert (first + last) / 2 == pytest.approx(32768, rel=0.05)
    assert last / first == pytest.approx(growth, rel=0.1)


@pytest.mark.parametrize("rays", [-1, 0, 63, (1 << 16) + 1, 10**9, 10**30])
def test_no_state_has_more_or_fewer_rays_than_a_step_takes(rays: int) -> None:
    task = a_task()
    tensors, facts = task.state()
    with pytest.raises(ValueError, match="a step takes 64 to 65536 rays"):
        task.load_state(tensors, {**facts, "rays": rays})
    assert task.state()[1] == facts


@pytest.mark.parametrize("samples", [1, 1 << 24])
def test_every_state_that_is_reached_is_taken_back(samples: int) -> None:
    task = a_task(samples=samples)
    for _ in range(2):  # before and after the grid is carved
        tensors, facts = task.state()
        again = a_task(samples=samples)
        again.load_state(tensors, facts)
        assert again.state()[1] == facts
        task.prepare()


def test_a_growth_must_be_above_zero() -> None:
    with pytest.raises(ConfigError, match=r"train\.growth must be above 0, but is 0"):
        from_json(RadianceTraining, {"growth": 0.0}, "train")
