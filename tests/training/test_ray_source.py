"""Training rays: the right colours, the same stream for the same seed, none that teach nothing."""

import pytest
import torch

from polyfield.datasets.builtin import builtin_scene
from polyfield.datasets.scene import Scene
from polyfield.fields.model import build_model
from polyfield.fields.presets import preset
from polyfield.renderers.volume import VolumeRenderer
from polyfield.training.interest import Interest
from polyfield.training.placement import place
from polyfield.training.ray_source import RaySource


@pytest.fixture(scope="module")
def scene() -> Scene:
    return builtin_scene(views=10, size=64)


def test_the_stream_is_its_seed_and_position(scene: Scene) -> None:
    one, other = RaySource(scene, 3), RaySource(scene, 3)
    first = [one.next(1000) for _ in range(4)]
    for _ in range(2):
        other.next(1000)
    assert torch.equal(other.next(1000).color, first[2].color)
    resumed = RaySource(scene, 3)
    resumed.seek(0, 3000)
    assert torch.equal(resumed.next(1000).origins, first[3].origins)
    assert not torch.equal(RaySource(scene, 4).next(1000).color, first[0].color)


def test_a_block_ends_and_the_next_begins(scene: Scene) -> None:
    source = RaySource(scene, 0)
    sizes = [len(source.next(50_000)) for _ in range(3)]
    assert sizes == [50_000, (1 << 16) - 50_000, 50_000]
    assert (source.block, source.offset) == (1, 50_000)


def worth(interest: Interest, view: int) -> torch.Tensor:
    """The pixels of a view that lie in tiles of interest: bool [height, width]."""
    width, height = interest.sizes[view].tolist()
    mask = torch.zeros(height, width, dtype=torch.bool)
    for _, x, y in interest.tiles[interest.starts[view] : interest.starts[view + 1]].tolist():
        mask[y : y + 8, x : x + 8] = True
    return mask


def test_only_training_views_are_drawn(scene: Scene) -> None:
    batch = RaySource(scene, 0).next(20_000)
    assert set(batch.camera_ids.tolist()) == set(scene.split["train"])


def test_rays_carry_the_colour_of_their_pixel(scene: Scene) -> None:
    batch = RaySource(scene, 0).next(500)
    for i in range(0, 500, 50):
        camera = int(batch.camera_ids[i])
        ids = torch.tensor([camera])
        ahead = batch.origins[i] + 2.0 * batch.directions[i]
        x, y = (int(v) for v in scene.cameras.project(ahead[None].double(), ids)[0])
        pixel = scene.images.image(camera)[y, x]
        assert torch.allclose(batch.color[i], pixel[:3])
        assert torch.allclose(batch.alpha[i], pixel[3])


@pytest.mark.parametrize("told_by", ["silhouettes", "occupancy"])
def test_what_is_of_no_interest_has_no_samples(scene: Scene, told_by: str) -> None:
    domain, render, _ = place(scene)
    field = preset("hashgrid")["field"]
    field["encoder"] |= {"log2_table": 12}
    model = build_model("radiance", {"field": field, "domain": domain, "render": render})
    renderer = VolumeRenderer(model)
    views = scene.split["train"]
    if told_by == "silhouettes":
        renderer.carve(scene)
        interest = Interest.of(scene, views, renderer.cell_diagonal)
    else:
        grid = renderer.grid
        middles = grid.random_points(torch.arange(grid.values.numel()), 0)
        kept = (middles - 0.3 * grid.half_size).norm(dim=1) < 0.2 * grid.half_size.min()
        kept[grid.cells_of(grid.center[None] - 0.7 * grid.half_size)] = True  # one cell alone
        grid.set_from_hull(kept)
        interest = Interest.of_balls(scene, views, *grid.occupied_balls())
    source = RaySource(scene, 0)
    camera, x, y = source._pixels(torch.tensor(views), torch.Generator().manual_seed(0))
    masks = torch.stack([worth(interest, view) for view in range(len(scene.names))])
    mine = masks[camera, y, x]
    assert 0.01 < mine.float().mean() < 0.9
    pixels = torch.stack([x, y], dim=-1)[~mine].float() + 0.5
    origins, directions = scene.cameras.rays(camera[~mine], pixels)
    assert renderer.trace(origins, directions, 0.0).evaluated == 0
    if told_by == "silhouettes":
        assert mine[scene.images.gather(camera, x, y)[:, 3] > 0].all()
    # And not much more than it takes: tiles of 8 pixels, and a cell's margin, around a disc of 6 pixels' radius.
    pixels = torch.stack([x, y], dim=-1)[mine].float() + 0.5
    met = renderer.trace(*scene.cameras.rays(camera[mine], pixels), 0.0).samples
    assert (met.ray_offsets.diff() > 0).float().mean() > 0.1


def test_a_camera_among_occupied_cells_sees_them_everywhere(scene: Scene) -> None:
    views = scene.split["train"]
    here = scene.cameras.positions[views[0] : views[0] + 1].float()
    interest = Interest.of_balls(scene, views, here + 0.01, 0.1)
    assert worth(interest, views[0]).all()
    assert not worth(interest, views[1]).all()


@pytest.mark.parametrize("some", [False, True])
def test_pixels_of_interest_are_drawn_alike_and_no_others(some: bool) -> None:
    scene = builtin_scene(views=10, size=44)  # the last tiles of a row are half a tile wide
    interest = Interest.of(scene, scene.split["train"], 0.001)
    views = torch.tensor(scene.split["train"][: 3 if some else None])
    masks = torch.stack([worth(interest, view) for view in range(len(scene.names))])
    generator = torch.Generator().manual_seed(0)
    counts = torch.zeros(masks.shape)
    for _ in range(40):
        drawn = interest.draw(views, 50_000, generator)
        assert drawn is not None
        camera, x, y = drawn
        counts.index_put_((camera, y, x), torch.ones(len(x)), accumulate=True)
    others = torch.ones(len(masks), dtype=torch.bool)
    others[views] = False
    masks[others] = False
    assert not counts[~masks].any()
    assert not masks[views].all()
    inside = counts[masks]
    # Counts of independent draws are Poisson: their variance is their mean, here known to 6 sigma of itself.
    spread = float(inside.var() / inside.mean())
    assert abs(spread - 1) < 6 * (2 / len(inside)) ** 0.5
    # Whole and cut tiles alike: the edge's mean differs by no more than chance.
    edge = counts[..., 40:][masks[..., 40:]]
    assert abs(edge.mean() - inside.mean()) < 6 * (inside.mean() / len(edge)) ** 0.5


def test_interest_thins_the_stream(scene: Scene) -> None:
    interest = Interest.of(scene, scene.split["train"], 0.02)
    thinned = RaySource(scene, 0, interest).next(5000)
    plain = RaySource(scene, 0).next(5000)
    assert (thinned.alpha > 0).float().mean() > (plain.alpha > 0).float().mean()


def test_images_of_nothing_still_give_rays(scene: Scene) -> None:
    tiles = Interest.of(scene, scene.split["train"], 0.02)
    nothing = Interest(tiles.tiles[:0], torch.zeros_like(tiles.starts), tiles.sizes)
    assert len(RaySource(scene, 0, nothing).next(100)) == 100
