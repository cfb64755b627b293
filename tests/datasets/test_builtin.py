"""The built-in scene: what is seen agrees with the solids, and the truth that it offers is true."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from polyfield.datasets.builtin import builtin_depth, builtin_normals, builtin_scene, render_solids
from polyfield.datasets.builtin_mesh import builtin_mesh
from polyfield.datasets.raycast import Ball, Cylinder, RoundedBox, Shape, Solid, Torus, cast
from polyfield.datasets.scene import Scene
from polyfield.datasets.still_life import SOLIDS, colours, distance
from polyfield.errors import InputError, ShapeError

SHAPES: tuple[Shape, ...] = (
    Ball(0.5),
    Torus(0.4, 0.1),
    RoundedBox((0.3, 0.2, 0.5), 0.05),
    Cylinder(0.3, 0.4, 0.05),
)


@pytest.fixture(scope="module")
def scene() -> Scene:
    return builtin_scene(views=12, size=48)


def central_rays(scene: Scene, i: int) -> tuple[np.ndarray, np.ndarray]:
    width, height = scene.cameras.size[i].tolist()
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    pixels = torch.stack([x.flatten(), y.flatten()], dim=1) + 0.5
    origins, directions = scene.cameras.rays(torch.full((width * height,), i), pixels)
    return origins.double().numpy().T, directions.double().numpy().T


# The ray caster


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: type(shape).__name__)
def test_the_first_hit_is_where_the_distance_falls_to_zero(shape: Shape) -> None:
    rng = np.random.default_rng(0)
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    solid = Solid(shape, (0.1, -0.2, 0.3), (turn * np.linalg.det(turn)).astype(np.float32))
    origin = np.array([[1.5], [0.3], [-0.8]], dtype=np.float32)
    aim = rng.uniform(-0.7, 0.7, (3, 4000)).astype(np.float32) - origin
    directions = aim / np.linalg.norm(aim, axis=0)
    hits = cast((solid,), origin, directions)
    assert 0.05 < hits.met.mean() < 0.95
    walk = np.linspace(0, 4, 2001, dtype=np.float32)
    along = np.stack([solid.distance(origin + t * directions) for t in walk])
    crossed = (along < 0).any(axis=0)
    # A ray that only grazes may be called either way: within the step of the walk.
    sure = np.abs(along.min(axis=0)) > 2e-3
    assert np.array_equal(crossed[sure], hits.met[sure])
    first = walk[(along < 0).argmax(axis=0)]
    both = hits.met & crossed & sure
    assert np.abs(hits.t[both] - first[both]).max() < 4e-3
    place = origin + hits.t[hits.met] * directions[:, hits.met]
    assert np.abs(solid.distance(place)).max() < 5e-5  # it stops at 2e-5, in float32
    normal = solid.normal(place)
    assert np.allclose(np.linalg.norm(normal, axis=0), 1, atol=1e-5)
    assert (solid.distance(place + 0.01 * normal) > 0.0095).all()  # it points outside


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: type(shape).__name__)
def test_distances_are_distances(shape: Shape) -> None:
    # A distance never changes faster than the point moves, and its size is that of the gradient: 1.
    rng = np.random.default_rng(0)
    a, b = (rng.uniform(-1, 1, (3, 2000)).astype(np.float32) for _ in range(2))
    change = np.abs(shape.distance(a) - shape.distance(b))
    assert (change <= np.linalg.norm(a - b, axis=0) + 1e-6).all()
    assert (shape.distance(a)[np.linalg.norm(a, axis=0) > shape.bound + 1e-6] > 0).all()


# The scene


def test_the_scene_is_complete(scene: Scene) -> None:
    assert len(scene.cameras) == len(scene.images) == len(scene.names) == 12
    assert scene.split == {"train": (1, 2, 3, 4, 5, 6, 7, 9, 10, 11), "val": (), "test": (0, 8)}
    assert list(scene.names) == sorted(set(scene.names))
    assert scene.images.has_alpha
    assert scene.images.sizes.tolist() == scene.cameras.size.tolist() == [[48, 48]] * 12
    distances = scene.cameras.positions.norm(dim=1)
    assert (distances - 1 > scene.near - 0.1).all()
    assert (distances + 1 < scene.far + 0.1).all()


def test_everything_is_in_the_box_and_in_the_picture(scene: Scene) -> None:
    shell = np.random.default_rng(0).normal(size=(3, 20000))
    shell = (shell / np.abs(shell).max(axis=0)).astype(np.float32)  # on the sides of [-1, 1]^3
    assert (distance(shell) > 0).all()
    for i in range(len(scene.images)):
        alpha = scene.images.image(i)[..., 3]
        rim = torch.cat([alpha[0], alpha[-1], alpha[:, 0], alpha[:, -1]])
        assert rim.max() == 0
        assert 0.15 < alpha.mean() < 0.7


def test_poses_are_upright_rotations(scene: Scene) -> None:
    pose = scene.cameras.world_from_camera
    rotation = pose[:, :, :3]
    assert torch.allclose(rotation.transpose(1, 2) @ rotation, torch.eye(3).double(), atol=1e-12)
    assert torch.allclose(torch.linalg.det(rotation), torch.ones(12).double())
    assert (rotation[:, 2, 0].abs() < 1e-12).all()  # "right" is level
    assert (rotation[:, 2, 1] < 0).all()  # "down" goes down


def test_test_views_are_on_all_sides() -> None:
    scene = builtin_scene(views=60, size=1)
    seen = scene.cameras.positions[list(scene.split["test"])]
    angle = torch.rad2deg(torch.atan2(seen[:, 1], seen[:, 0])).sort().values
    gaps = torch.diff(torch.cat([angle, angle[:1] + 360]))
    assert gaps.max() < 90
    assert seen[:, 2].max() > 2
    assert seen[:, 2].min() < 0


def test_depth_and_normals_are_those_of_the_solids(scene: Scene) -> None:
    for i in (0, 5):
        depth = builtin_depth(scene, i)
        normals = builtin_normals(scene, i)
        origins, directions = central_rays(scene, i)
        t = depth.flatten().double().numpy()
        met = np.isfinite(t)
        place = (origins + np.where(met, t, 0) * directions)[:, met]
        assert np.abs(distance(place)).max() < 5e-5
        flat = normals.reshape(-1, 3).numpy()
        assert (flat[~met] == 0).all()
        assert np.allclose(np.linalg.norm(flat[met], axis=1), 1, atol=1e-5)
        assert ((flat[met].T * directions[:, met]).sum(axis=0) < 0.02).all()  # seen from outside
        # Nothing stands in front, and where nothing was met, nothing is.
        for share in np.linspace(0.5, 0.995, 60):
            assert (distance(origins[:, met] + share * t[met] * directions[:, met]) > 0).all()
        for far in np.linspace(1.5, 4.5, 120):
            assert (distance((origins + far * directions)[:, ~met]) > -2e-3).all()
        alpha = scene.images.image(i)[..., 3].flatten().numpy()
        assert (alpha[met] > 0).all()  # the four samples lie around the central one
        assert (alpha[~met] < 1).all()


def test_what_one_camera_sees_another_sees_too_or_something_before_it(scene: Scene) -> None:
    depth = builtin_depth(scene, 3).flatten().double().numpy()
    origins, directions = central_rays(scene, 3)
    met = np.isfinite(depth)
    assert_nothing_hides_less(scene, 4, (origins + np.where(met, depth, 0) * directions)[:, met])


def assert_nothing_hides_less(scene: Scene, camera: int, place: np.ndarray) -> None:
    """From a camera to points on the surface, rays come as far as the points or not as far."""
    origin = scene.cameras.positions[camera].numpy()[:, None]
    far = np.linalg.norm(place - origin, axis=0)
    hits = cast(SOLIDS, origin.astype(np.float32), ((place - origin) / far).astype(np.float32))
    # float32 directions miss by 1e-7 * 3; at a slope of 1:1000, that is 3e-4 of depth. A ray that
    # passes an outline that closely may miss it, and what lies behind is then much further.
    past = hits.t - far
    assert (past < 1e-3).mean() > 0.99
    assert (np.abs(past) < 1e-3).mean() > 0.3


def test_reflections_depend_on_where_one_looks_from() -> None:
    # The top of the grey ball: from where it mirrors the sun, and from the sun's side.
    ball = SOLIDS[7]
    top = np.array(ball.centre, dtype=np.float32)[:, None]
    top[2] += ball.shape.bound
    shown = []
    for side in (-1, 1):
        away = np.array([[side * 0.42], [side * -0.5], [0.76]], dtype=np.float32)
        away /= np.linalg.norm(away)
        hits = cast(SOLIDS, top + 2 * away, -away)
        assert hits.solid.tolist() == [7]
        shown.append(colours(hits, top, -away))
    assert (shown[0] - shown[1] > 0.1).all()


def test_a_downscaled_scene_is_the_box_filtered_one(scene: Scene) -> None:
    small = builtin_scene(views=12, size=48, downscale=3)
    assert small.cameras.size.tolist() == [[16, 16]] * 12
    blocks = scene.images.image(2).view(16, 3, 16, 3, 4).mean(dim=(1, 3))
    assert torch.allclose(small.images.image(2), blocks, atol=2e-5)  # 16-bit storage
    assert small.fingerprint == scene.fingerprint
    # A pixel's centre is where the centre of its 3 x 3 pixels was: every third ray is the same.
    assert torch.allclose(builtin_depth(small, 2), builtin_depth(scene, 2)[1::3, 1::3], atol=1e-4)


def test_rendering_repeats_and_a_png_holds_it(scene: Scene) -> None:
    image = render_solids(scene.cameras, 1)
    assert torch.equal(image, render_solids(scene.cameras, 1))
    assert (image[..., :3] <= image[..., 3:] + 1e-6).all()  # premultiplied
    # 8 bits of straight colour, times alpha, and 8 bits of alpha: half a step each.
    assert (image - scene.images.image(1)).abs().max() < 1.01 / 255


def test_impossible_scenes_are_refused(scene: Scene) -> None:
    with pytest.raises(InputError, match="needs 2 views and 1 pixel at least, but got 1 and 10"):
        builtin_scene(views=1, size=10)
    with pytest.raises(ShapeError, match="Only the built-in scene has true geometry, but fox came"):
        builtin_depth(replace(scene, format="colmap", name="fox"), 0)


# The mesh


def test_the_mesh_is_the_surface() -> None:
    vertices, faces = builtin_mesh(64)
    assert np.abs(distance(vertices.numpy().T)).max() < 1e-5
    corners = vertices.double()[faces]
    # Closed: each edge is passed as often in one direction as in the other.
    edges = torch.cat([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    key = edges[:, 0] * len(vertices) + edges[:, 1]
    back = edges[:, 1] * len(vertices) + edges[:, 0]
    assert torch.equal(key.sort().values, back.sort().values)
    volume = float((corners[:, 0] * torch.linalg.cross(corners[:, 1], corners[:, 2])).sum() / 6)
    # Inside of the distance function, counted on points.
    points = np.random.default_rng(0).uniform(-0.97, 0.97, (3, 400_000)).astype(np.float32)
    share = (distance(points) < 0).mean()
    error = 3 * np.sqrt(share * (1 - share) / points.shape[1]) * 1.94**3  # three sigma
    assert abs(volume - share * 1.94**3) < error + 0.005  # and what 64 cells lose at edges
    with pytest.raises(InputError, match="at least 16 cells a side, but got 3"):
        builtin_mesh(3)


def test_rays_meet_the_mesh_where_they_meet_the_solids(scene: Scene) -> None:
    vertices, _ = builtin_mesh(64)
    assert_nothing_hides_less(scene, 6, vertices.double().numpy().T)
