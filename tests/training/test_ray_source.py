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


@pytest.mark.parametrize("place", [(-1, 0), (1 << 62, 0), (0, -1), (0, (1 << 16) + 1)])
def test_there_is_no_such_place_in_the_stream(scene: Scene, place: tuple[int, int]) -> None:
    source = RaySource(scene, 0)
    with pytest.raises(ValueError, match="a place in the stream of rays has a block >= 0"):
        source.seek(*place)
    assert (source.block, source.offset) == (0, 0)


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


def carved(scene: Scene) -> VolumeRenderer:
    domain, render, _ = place(scene)
    field = preset("hashgrid")["field"]
    field["encoder"] |= {"log2_table": 12}
    model = build_model("radiance", {"field": field, "domain": domain, "render": render})
    renderer = VolumeRenderer(model)
    renderer.carve(scene)
    return renderer


def of_silhouettes(scene: Scene) -> Interest:
    balls = carved(scene).grid.occupied_balls(beside=0)
    return Interest.of(scene, scene.split["train"], *balls)


@pytest.mark.parametrize("size", [64, 100])  # 100: the last tiles of a row are half a tile wide
@pytest.mark.parametrize("told_by", ["silhouettes", "few cells"])
def test_what_is_of_no_interest_has_no_samples(told_by: str, size: int) -> None:
    scene = builtin_scene(views=10, size=size)
    views = scene.split["train"]
    renderer = carved(scene)
    grid = renderer.grid
    if told_by == "few cells":
        middles = grid.random_points(torch.arange(grid.values.numel()), 0)
        kept = (middles - 0.3 * grid.half_size).norm(dim=1) < 0.2 * grid.half_size.min()
        kept[grid.cells_of(grid.center[None] - 0.7 * grid.half_size)] = True  # one cell alone
        grid.set_from_hull(kept)
    interest = Interest.of(scene, views, *grid.occupied_balls(beside=0))
    source = RaySource(scene, 0)
    camera, x, y = source._pixels(torch.tensor(views), torch.Generator().manual_seed(0))
    masks = torch.stack([worth(interest, view) for view in range(len(scene.names))])
    mine = masks[camera, y, x]
    assert (0.1 if told_by == "silhouettes" else 0.01) < mine.float().mean() < 0.9
    pixels = torch.stack([x, y], dim=-1)[~mine].float() + 0.5
    origins, directions = scene.cameras.rays(camera[~mine], pixels)
    assert renderer.trace(origins, directions, 0.0).evaluated == 0
    if told_by == "silhouettes":
        assert mine[scene.images.gather(camera, x, y)[:, 3] > 0].all()
    # And not much more than it takes: tiles of 8 pixels around a disc of 6 to 9 pixels' radius.
    pixels = torch.stack([x, y], dim=-1)[mine].float() + 0.5
    met = renderer.trace(*scene.cameras.rays(camera[mine], pixels), 0.0).samples
    assert (met.ray_offsets.diff() > 0).float().mean() > 0.1


def test_cells_beside_occupied_ones_are_of_interest(scene: Scene) -> None:
    grid = carved(scene).grid
    near = torch.empty(20_000, dtype=torch.int64)
    grid.values.clamp_(min=0.0)  # nothing is carved away: any neighbour may be drawn
    grid._pick_near(0, (grid.distance.view(-1) == 0).nonzero()[:, 0], near)
    masks = torch.stack(
        [
            worth(Interest.of(scene, scene.split["train"], *grid.occupied_balls(beside=1)), view)
            for view in range(len(scene.names))
        ]
    )
    ids = torch.tensor(scene.split["train"])[torch.arange(len(near)) % len(scene.split["train"])]
    x, y = scene.cameras.project(grid.random_points(near, 1), ids).floor().long().unbind(1)
    inside = (x >= 0) & (y >= 0) & (x < 64) & (y < 64)
    assert inside.float().mean() > 0.9
    assert masks[ids[inside], y[inside], x[inside]].all()


def test_a_camera_among_occupied_cells_sees_them_everywhere(scene: Scene) -> None:
    views = scene.split["train"]
    here = scene.cameras.positions[views[0] : views[0] + 1].float()
    interest = Interest.of(scene, views, here + 0.01, 0.1)
    assert worth(interest, views[0]).all()
    assert not worth(interest, views[1]).all()
    nothing = Interest.of(scene, views, here[:0], 0.1)
    assert len(nothing.tiles) == 0


@pytest.mark.parametrize("some", [False, True])
def test_pixels_of_interest_are_drawn_alike_and_no_others(some: bool) -> None:
    scene = builtin_scene(views=10, size=100)  # the last tiles of a row are half a tile wide
    interest = of_silhouettes(scene)
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
    edge = counts[..., 96:][masks[..., 96:]]
    assert abs(edge.mean() - inside.mean()) < 6 * (inside.mean() / len(edge)) ** 0.5


def test_interest_thins_the_stream(scene: Scene) -> None:
    interest = of_silhouettes(scene)
    thinned = RaySource(scene, 0, interest).next(5000)
    plain = RaySource(scene, 0).next(5000)
    assert (thinned.alpha > 0).float().mean() > (plain.alpha > 0).float().mean()


def test_images_of_nothing_still_give_rays(scene: Scene) -> None:
    tiles = of_silhouettes(scene)
    nothing = Interest(tiles.tiles[:0], torch.zeros_like(tiles.starts), tiles.sizes)
    assert len(RaySource(scene, 0, nothing).next(100)) == 100
