"""Camera paths: orbits close, keyframes are hit, rotations stay rotations, files are read strictly."""

import json
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from polyfield.datasets.cameras import Cameras
from polyfield.datasets.lenses import Lens
from polyfield.errors import DataError, InputError
from polyfield.renderers.camera_file import CameraFile, Keyframe, interpolate, read_camera_file
from polyfield.renderers.camera_path import (
    FrameSize,
    camera_path,
    focus_of,
    look_at,
    orbit,
    spiral,
)

# float64 through a handful of products: a few units in the last place of numbers up to 10
EXACT = {"atol": 1e-12, "rtol": 0.0}
UP = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
FOCUS = torch.tensor([0.5, -0.2, 0.3], dtype=torch.float64)


def around(count: int = 24, elevation: float = 0.5, radius: float = 4.0) -> torch.Tensor:
    """Cameras on a circle, looking at FOCUS."""
    poses = []
    for i in range(count):
        angle = 2 * math.pi * i / count
        level = math.cos(elevation)
        offset = [level * math.cos(angle), level * math.sin(angle), math.sin(elevation)]
        position = FOCUS + radius * torch.tensor(offset, dtype=torch.float64)
        poses.append(look_at(position, FOCUS, UP))
    return torch.stack(poses)


def ahead() -> torch.Tensor:
    """Cameras on a small square that all look along +y."""
    forward = torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64)
    places = [(x, 0.0, z) for x in (-1.0, 0.0, 1.0) for z in (-0.5, 0.0, 0.5)]
    return torch.stack(
        [
            look_at(place, place + forward, UP)
            for place in (torch.tensor(p, dtype=torch.float64) for p in places)
        ]
    )


def cameras(poses: torch.Tensor, width: int = 80, height: int = 60) -> Cameras:
    count = len(poses)
    return Cameras(
        poses,
        focal=torch.full((count, 2), 100.0, dtype=torch.float64),
        center=torch.tensor([[width / 2, height / 2]], dtype=torch.float64).repeat(count, 1),
        size=torch.tensor([[width, height]]).repeat(count, 1),
        lenses=(Lens(),) * count,
    )


def assert_rotations(poses: torch.Tensor) -> None:
    rotations = poses[:, :, :3]
    identity = torch.eye(3, dtype=torch.float64).expand_as(rotations)
    torch.testing.assert_close(rotations.mT @ rotations, identity, **EXACT)
    torch.testing.assert_close(
        torch.linalg.det(rotations), torch.ones(len(poses), dtype=torch.float64), **EXACT
    )


# --- made from the capture


def test_look_at_sees_the_target_in_the_middle_and_up_above():
    pose = look_at(torch.tensor([3.0, 1.0, 2.0], dtype=torch.float64), FOCUS, UP)
    camera = cameras(pose[None])
    seen = camera.project(torch.stack([FOCUS, FOCUS + 0.1 * UP]), torch.zeros(2, dtype=torch.int64))
    torch.testing.assert_close(seen[0], torch.tensor([40.0, 30.0], dtype=torch.float64))
    assert seen[1, 1] < 30  # y runs down
    assert seen[1, 0] == pytest.approx(40)


def test_look_straight_down():
    pose = look_at(FOCUS + 2 * UP, FOCUS, UP)
    assert_rotations(pose[None])
    torch.testing.assert_close(pose[:, 2], -UP, **EXACT)


def test_focus_is_what_the_cameras_look_at():
    torch.testing.assert_close(focus_of(around()), FOCUS, **EXACT)


def test_focus_of_parallel_cameras_is_the_target_s_place_on_their_axis():
    y = focus_of(ahead(), target=(7.0, 5.0, 0.0))
    torch.testing.assert_close(y, torch.tensor([0.0, 5.0, 0.0], dtype=torch.float64), **EXACT)
    assert focus_of(ahead())[1] > 0  # and without a target somewhere ahead


def test_cameras_that_look_away_have_their_focus_ahead_all_the_same():
    poses = around()
    poses[:, :, :3] = poses[:, :, :3] @ torch.diag(torch.tensor([-1.0, 1, -1]).double())
    assert torch.isfinite(focus_of(poses)).all()


@pytest.mark.parametrize("frames", [1, 2, 7, 120])
def test_orbit_closes_and_keeps_its_distance(frames):
    poses = orbit(around(), frames)
    assert poses.shape == (frames, 3, 4)
    assert_rotations(poses)
    offsets = poses[:, :, 3] - FOCUS
    torch.testing.assert_close(
        offsets.norm(dim=1), torch.full((frames,), 4.0, dtype=torch.float64), **EXACT
    )
    torch.testing.assert_close(poses[0, :, 3], around()[0, :, 3], **EXACT)
    if frames > 2:  # all steps are alike, the one from the last frame to the first as well
        steps = (poses[:, :, 3] - poses[:, :, 3].roll(1, 0)).norm(dim=1)
        torch.testing.assert_close(steps, steps[:1].expand_as(steps), **EXACT)


def test_spiral_in_front_stays_within_the_cameras_and_looks_ahead():
    poses = spiral(ahead(), 60, target=(0.0, 5.0, 0.0))
    assert_rotations(poses)
    assert (poses[:, :, 2] @ torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64)).min() > 0.9
    assert poses[:, 0, 3].abs().max() <= 1.0 + 1e-12
    assert poses[:, 2, 3].abs().max() <= 0.5 + 1e-12
    assert poses[:, 0, 3].std() > 0.3


def test_spiral_around_rises_and_sinks_within_the_capture():
    poses = torch.cat([around(elevation=0.2), around(elevation=0.8)])
    path = spiral(poses, 90)
    assert_rotations(path)
    heights = ((path[:, :, 3] - FOCUS) @ UP / 4.0).asin()
    assert heights.min() == pytest.approx(0.2, abs=1e-6)
    assert heights.max() == pytest.approx(0.8, abs=1e-2)  # the top lies between two frames


def test_one_camera_is_enough():
    for path in ("orbit", "spiral"):
        made = camera_path(path, cameras(around(1)), frames=5)
        assert torch.isfinite(made.cameras.world_from_camera).all()
        assert_rotations(made.cameras.world_from_camera)


# --- the choice and the size


def test_test_views_are_the_cameras_themselves():
    capture = cameras(around())
    made = camera_path("test", capture, test=(3, 5))
    assert torch.equal(made.cameras.world_from_camera, capture.world_from_camera[[3, 5]])
    assert made.cameras.size.tolist() == [[80, 60]] * 2
    half = camera_path("test", capture, test=(3,), size=FrameSize(width=40)).cameras
    assert half.size.tolist() == [[40, 30]]
    assert half.focal.tolist() == [[50.0, 50.0]]


def test_no_test_views():
    with pytest.raises(InputError, match="no test views to render"):
        camera_path("test", cameras(around()))


def test_unknown_path_names_the_nearest():
    with pytest.raises(InputError, match="Did you mean 'orbit'"):
        camera_path("orbti", cameras(around()))


@pytest.mark.parametrize(
    ("size", "wanted", "focal"),
    [
        (FrameSize(), (80, 60), 100.0),
        (FrameSize(width=160), (160, 120), 200.0),
        (FrameSize(height=30), (40, 30), 50.0),
        (FrameSize(60, 60), (60, 60), 100.0),  # as high as before, narrower
        (FrameSize(160, 60), (160, 60), 200.0),  # as wide as before, lower
    ],
)
def test_no_frame_shows_more_than_the_photographs(size, wanted, focal):
    made = camera_path("orbit", cameras(around()), size=size, frames=2).cameras
    assert made.size.tolist() == [list(wanted)] * 2
    assert made.focal.tolist() == [[focal, focal]] * 2
    assert made.center.tolist() == [[wanted[0] / 2, wanted[1] / 2]] * 2


# --- files


def keyframe(pose: torch.Tensor, **more) -> dict:
    return {"world_from_camera": [*pose.tolist(), [0, 0, 0, 1]], **more}


def written(tmp_path, **content):
    path = tmp_path / "path.json"
    path.write_text(json.dumps(content))
    return path


KEYS = [around()[0], around(elevation=0.9)[5], around(radius=2.0)[13], ahead()[2]]


def as_keyframe(pose: torch.Tensor, **more) -> Keyframe:
    return Keyframe(tuple(tuple(row) for row in pose.tolist()), **more)


@pytest.mark.parametrize("loop", [False, True])
@pytest.mark.parametrize("times", [None, (0.0, 0.5, 2.0, 2.25)])
def test_keyframes_are_hit(loop, times):
    keys = [as_keyframe(p, fov=40.0, time=times[i] if times else None) for i, p in enumerate(KEYS)]
    path = CameraFile(tuple(keys), loop=loop)
    poses, zooms = interpolate(path, list(path.times))
    wanted = torch.stack(KEYS + KEYS[:1] * loop)
    torch.testing.assert_close(poses, wanted, **EXACT)
    assert zooms == pytest.approx([math.tan(math.radians(20))] * len(wanted))


@settings(max_examples=40, deadline=None)
@given(st.floats(-1, 10), st.booleans())
def test_what_lies_between_is_a_rotation_and_smooth(time, loop):
    path = CameraFile(tuple(as_keyframe(pose) for pose in KEYS), loop=loop)
    poses, zooms = interpolate(path, [time, time + 1e-6])
    assert_rotations(poses)
    assert zooms == [None, None]
    # The cubics here move by at most some 10 units a second
    assert (poses[1] - poses[0]).abs().max() < 1e-4


def test_velocity_does_not_jump_at_keyframes():
    path = CameraFile(tuple(as_keyframe(pose) for pose in KEYS), loop=True)
    h = 1e-5
    for time in path.times[1:-1]:
        poses, _ = interpolate(path, [time - h, time, time + h])
        before, after = (poses[1] - poses[0])[:, 3] / h, (poses[2] - poses[1])[:, 3] / h
        # one-sided differences err by h times the second derivative, which is below 100 here
        torch.testing.assert_close(before, after, atol=200 * h, rtol=0)
    start, _ = interpolate(path, [0.0, h])
    end, _ = interpolate(path, [path.times[-1] - h, path.times[-1]])
    torch.testing.assert_close(
        start[1, :, 3] - start[0, :, 3], end[1, :, 3] - end[0, :, 3], atol=200 * h * h, rtol=0
    )


def test_half_a_turn_goes_halfway():
    start = look_at(FOCUS + UP, FOCUS, torch.tensor([1.0, 0, 0]).double())
    end = start.clone()
    end[:, :2] *= -1  # half a turn about the axis of view
    path = CameraFile((as_keyframe(start), as_keyframe(end)))
    poses, _ = interpolate(path, [0.0, 1.0, 2.0])
    assert_rotations(poses)
    assert float(poses[1, :, 0] @ start[:, 0]) == pytest.approx(0.0, abs=1e-6)
    torch.testing.assert_close(poses[:, :, 2], start[None, :, 2].expand(3, 3), **EXACT)


def test_file_with_everything(tmp_path):
    keys = [keyframe(pose, focal=50.0 + i, time=float(i)) for i, pose in enumerate(KEYS)]
    file = written(tmp_path, width=64, height=48, fps=10, loop=False, keyframes=keys)
    made = camera_path(str(file), cameras(around()))
    assert made.fps == 10
    assert len(made.cameras) == 30
    assert made.cameras.size[0].tolist() == [64, 48]
    assert made.cameras.focal[0, 0].item() == pytest.approx(50.0)
    assert made.cameras.focal[-1, 0].item() == pytest.approx(53.0)
    torch.testing.assert_close(made.cameras.world_from_camera[-1], KEYS[3], **EXACT)
    # a size on the command line scales the view instead of cropping it
    large = camera_path(str(file), cameras(around()), size=FrameSize(128, 96), frames=7, fps=5)
    assert (large.fps, len(large.cameras)) == (5, 7)
    assert large.cameras.focal[0, 0].item() == pytest.approx(100.0)


def test_a_loop_ends_one_frame_before_its_start(tmp_path):
    file = written(tmp_path, seconds=2, fps=5, loop=True, keyframes=[keyframe(p) for p in KEYS])
    made = camera_path(str(file), cameras(around()))
    assert len(made.cameras) == 10
    assert made.cameras.focal[0, 0].item() == pytest.approx(100.0)  # the photographs' own
    path = read_camera_file(file)
    assert path.frame_times()[-1] == pytest.approx(2.0 - 0.2)


def test_one_keyframe_is_a_still(tmp_path):
    file = written(tmp_path, seconds=1, fps=3, keyframes=[keyframe(KEYS[0], fov=90)])
    made = camera_path(str(file), cameras(around()))
    assert torch.equal(made.cameras.world_from_camera, KEYS[0].expand(3, 3, 4)) or torch.allclose(
        made.cameras.world_from_camera, KEYS[0].expand(3, 3, 4), **EXACT
    )
    assert made.cameras.focal[0, 0].item() == pytest.approx(30.0)  # 60 pixels high, 90 degrees


MIRROR = torch.diag(torch.tensor([1.0, 1.0, -1.0], dtype=torch.float64))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({}, "lacks the key 'keyframes'"),
        ({"keyframes": []}, "at least one keyframe"),
        ({"keyframes": [{}]}, "lacks the key 'world_from_camera'"),
        ({"keyframes": [keyframe(KEYS[0])], "fsp": 3}, "no key 'fsp'. Did you mean 'fps'"),
        ({"keyframes": [keyframe(KEYS[0])], "zooms": [1]}, "no key 'zooms'"),
        ({"keyframes": [keyframe(KEYS[0])], "fps": 0}, "fps must be between 1 and 240, not 0"),
        ({"keyframes": [keyframe(KEYS[0])], "fps": 2.5}, "fps must be of kind int"),
        ({"keyframes": [keyframe(KEYS[0])], "seconds": -1}, "seconds must be above 0"),
        ({"keyframes": [keyframe(KEYS[0])], "seconds": 1e9}, "at most 100000 frames"),
        ({"keyframes": [keyframe(KEYS[0])], "seconds": 10**400}, "must be a finite number"),
        ({"keyframes": [keyframe(KEYS[0] * 1e300)]}, "position must be within 1e+09"),
        ({"keyframes": [keyframe(KEYS[0], fov=5e-324)]}, "fov or focal is that of no camera"),
        ({"keyframes": [keyframe(KEYS[0], focal=1e-310)], "height": 64}, "but is inf"),
        ({"keyframes": [keyframe(KEYS[0])], "width": 10**9}, "width must be between"),
        ({"keyframes": [keyframe(KEYS[0], fov=180)]}, "fov must be between 0 and 180"),
        ({"keyframes": [keyframe(KEYS[0], fov=30, focal=10)]}, "either a fov or a focal"),
        ({"keyframes": [keyframe(KEYS[0], focal=10)]}, "focal needs the path's height"),
        ({"keyframes": [keyframe(KEYS[0], focal=-1)], "height": 64}, "focal must be above 0"),
        ({"keyframes": [{"world_from_camera": [[1, 0], [0, 1]]}]}, "4x4 or 3x4 matrix"),
        ({"keyframes": [{"world_from_camera": [[0, 0, 0, 0]] * 4}]}, "last row"),
        ({"keyframes": [keyframe(KEYS[0] * 2)]}, "pose of keyframe 0 is no rotation"),
        ({"keyframes": [keyframe(MIRROR @ KEYS[0])]}, "pose of keyframe 0 is mirrored"),
        (
            {"keyframes": [keyframe(KEYS[0], time=0.0), keyframe(KEYS[1])]},
            "all keyframes have a time or none",
        ),
        (
            {"keyframes": [keyframe(KEYS[0], time=0.0), keyframe(KEYS[1], time=0.0)]},
            "must begin at 0 and rise",
        ),
        ({"keyframes": [keyframe(KEYS[0], time=1e9)]}, "must begin at 0"),
        (
            {"keyframes": [keyframe(KEYS[0], time=0.0), keyframe(KEYS[1], time=1e9)]},
            "longer than 100000 frames",
        ),
    ],
)
def test_broken_files(tmp_path, content, sentence):
    with pytest.raises(DataError) as caught:
        camera_path(str(written(tmp_path, **content)), cameras(around()))
    assert sentence in str(caught.value)
    assert "path.json" in str(caught.value)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match="No such file"):
        camera_path(str(tmp_path / "none.json"), cameras(around()))


def test_nan_in_a_pose(tmp_path):
    path = tmp_path / "path.json"
    path.write_text(json.dumps({"keyframes": [keyframe(KEYS[0] * float("nan"))]}))
    with pytest.raises(DataError, match="finite"):
        read_camera_file(path)
