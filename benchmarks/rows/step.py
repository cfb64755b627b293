"""The three calls of a training step: tracing, comparing with the photographs, going backwards.

On the built-in scene after some steps, so that rays have the samples that training gives them. The rows "by turns" and
"by autograd" are the same work done call by call from Python, by the same kernels: what any field can have.
"""

import math
from collections.abc import Iterator
from functools import partial

import torch
from harness import Bench, Row

from polyfield.config import from_json
from polyfield.datasets.load import load_scene
from polyfield.fields.model import build_model
from polyfield.fields.replay import replay, replay_reference
from polyfield.renderers.march import MarchSettings
from polyfield.renderers.trace import Rays, trace, trace_by_turns
from polyfield.training.loop import Control, Loop
from polyfield.training.photometric import photometric, photometric_reference
from polyfield.training.placement import place
from polyfield.training.radiance import RadianceTask, RadianceTraining
from polyfield.training.run_config import plan_settings, spell_out
from polyfield.training.schedule import Plan, Rate

STEPS = 150
RAYS = 6144


def rows(bench: Bench) -> Iterator[Row]:
    """Samples that can be seen a second; the backward pass counts those that it is given."""
    task = trained()
    batch = task._source.next(RAYS)  # fewer at the end of a block
    number = len(batch)
    config = task.renderer.config
    settings = MarchSettings(config.step, config.cone)
    jitter = torch.full((number,), 0.5)
    rays = Rays(batch.origins, batch.directions, config.near, config.far, jitter)
    way = (rays, task.renderer.grid, settings, task.field, task.training.min_transmittance)
    traced = trace(*way, keep_encoded=True)
    background = torch.zeros(number, 3)
    judged = (traced, batch, background, task.training.huber)
    seen = photometric(*judged)
    kept, weights = task._select(seen.importance)
    back = (task.field, traced.samples, kept, weights, seen.sigma_gradient, seen.color_gradient)
    count = len(traced.samples)
    for name, samples, work in (
        ("trace", count, partial(trace, *way, keep_encoded=True)),
        ("trace by turns", count, partial(trace_by_turns, *way)),
        ("photometric", count, partial(photometric, *judged)),
        ("photometric by autograd", count, partial(photometric_reference, *judged)),
        ("replay", len(kept), partial(replay, *back, traced.encoded)),
        ("replay by autograd", len(kept), partial(replay_reference, *back)),
    ):
        seconds = bench.time(work)
        yield Row(
            name, f"{number} rays, {samples} samples, {1e3 * seconds:.2f} ms", samples / seconds
        )


def trained() -> RadianceTask:
    """The hash grid's task on the built-in scene, some steps on."""
    scene = load_scene(None)
    domain, render, _ = place(scene)
    model, train = spell_out(
        "hashgrid", plan_settings("hashgrid", (None, 60)), (domain, render), None
    )
    task = RadianceTask(
        build_model("radiance", model, 0), scene, from_json(RadianceTraining, train), None, 0
    )
    task.prepare()
    Loop(
        task,
        Plan(STEPS, None),
        Rate(task.training.rate),
        save=lambda _: lambda: None,
        log=lambda *_: None,
        on_progress=lambda _: None,
        control=Control(),
        save_every=math.inf,
    ).run()
    return task
