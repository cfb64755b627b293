"""Lenses: laws, closed forms, and COLMAP's own implementation as the oracle."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from polyfield.datasets.lenses import (
    MODELS,
    Lens,
    join_parameters,
    project,
    split_parameters,
    unproject,
)
from polyfield.errors import DataError

# Distortions of about a tenth, like those of real wide lenses; invertible over the whole image.
COEFFICIENTS = {
    "SIMPLE_RADIAL": [0.1],
    "RADIAL": [-0.1, 0.02],
    "OPENCV": [0.1, -0.05, 0.001, -0.002],
    "FULL_OPENCV": [0.1, -0.05, 0.001, -0.002, 0.01, 0.02, -0.01, 0.003],
    "FOV": [0.9],
    "OPENCV_FISHEYE": [0.05, -0.01, 0.003, -0.001],
    "SIMPLE_RADIAL_FISHEYE": [0.05],
    "RADIAL_FISHEYE": [0.05, -0.01],
    "THIN_PRISM_FISHEYE": [0.05, -0.01, 0.001, -0.002, 0.003, -0.001, 0.001, 0.002],
    "RAD_TAN_THIN_PRISM_FISHEYE": [
        *(0.05, -0.01, 0.003, -0.001, 0.0005, 0.0001),
        *(0.001, -0.002, 0.001, -0.001, 0.002, 0.001),
    ],
    "SIMPLE_DIVISION": [-0.1],
    "DIVISION": [-0.1],
    "EUCM": [0.6, 1.1],
}
WIDTH, HEIGHT = 640, 480


def parameters(model: str) -> list[float]:
    kind = MODELS[model]
    if kind.focals == 0:
        return [float(WIDTH), float(HEIGHT)]
    return [[400.0, 410.0][i] for i in range(kind.focals)] + [
        321.0,
        239.0,
        *COEFFICIENTS.get(model, []),
    ]


def pixels(model: str, count: int = 500) -> np.ndarray:
    places = np.random.default_rng(0).random((count, 2)) * [WIDTH, HEIGHT]
    if model == "EQUIRECTANGULAR":  # COLMAP gives x / z, so compare where z > 0: the middle half
        places[:, 0] = places[:, 0] * 0.48 + 0.26 * WIDTH
    return places


def lens_of(model: str) -> tuple[np.ndarray, np.ndarray, torch.Tensor]:
    focal, center, lens = split_parameters(model, parameters(model))
    return (
        np.array(focal),
        np.array(center),
        torch.tensor(lens.coefficients, dtype=torch.float64),
    )


@pytest.mark.parametrize("model", MODELS)
def test_projecting_what_was_unprojected_gives_the_pixel_back(model):
    focal, center, coefficients = lens_of(model)
    places = pixels(model)
    directions = unproject(model, torch.from_numpy((places - center) / focal), coefficients)
    back = project(model, directions, coefficients).numpy() * focal + center
    # Newton stops at 1e-12 of the plane; times a focal length of 400 that is 4e-10 pixels.
    np.testing.assert_allclose(back, places, atol=1e-9, rtol=0)
    lengths = directions.norm(dim=1)
    torch.testing.assert_close(lengths, torch.ones_like(lengths), atol=1e-14, rtol=0)


@pytest.mark.parametrize("model", MODELS)
def test_both_ways_agree_with_colmap(model):
    pycolmap = pytest.importorskip("pycolmap", reason="the extra 'oracles' is not installed")
    theirs = pycolmap.Camera(model=model, width=WIDTH, height=HEIGHT, params=parameters(model))
    focal, center, coefficients = lens_of(model)
    places = pixels(model)
    directions = unproject(model, torch.from_numpy((places - center) / focal), coefficients)
    # COLMAP's iterations stop at steps of 1e-10 of the plane.
    np.testing.assert_allclose(
        (directions[:, :2] / directions[:, 2:]).numpy(), theirs.cam_from_img(places), atol=1e-9
    )
    points = np.random.default_rng(1).normal(size=(500, 3)) * [0.6, 0.5, 0.3] + [0, 0, 1.4]
    points = points[points[:, 2] > 0.1]
    mine = project(model, torch.from_numpy(points), coefficients).numpy() * focal + center
    np.testing.assert_allclose(mine, theirs.img_from_cam(points), atol=1e-9)


@pytest.mark.parametrize("model", MODELS)
def test_numbers_and_parameters_are_colmaps(model):
    pycolmap = pytest.importorskip("pycolmap", reason="the extra 'oracles' is not installed")
    theirs = pycolmap.Camera(model=model, width=WIDTH, height=HEIGHT, params=parameters(model))
    kind = MODELS[model]
    assert int(getattr(pycolmap.CameraModelId, model)) == kind.colmap_id
    heads = {
        0: ["w", "h"],
        1: ["f", "cx", "cy"],
        2: ["fx", "fy", "cx", "cy"],
    }
    names = theirs.params_info.replace(" ", "").split(",")
    assert names == [*heads[kind.focals], *kind.coefficients]


def test_all_of_colmaps_models_are_here():
    pycolmap = pytest.importorskip("pycolmap", reason="the extra 'oracles' is not installed")
    assert set(pycolmap.CameraModelId.__members__) - {"INVALID"} == set(MODELS)


@pytest.mark.parametrize("model", MODELS)
def test_parameters_survive_splitting_and_joining(model):
    focal, center, lens = split_parameters(model, parameters(model))
    name, joined = join_parameters(focal, center, lens)
    assert name == model
    assert joined == pytest.approx(parameters(model), rel=1e-15)


def test_two_focal_lengths_move_to_a_model_that_has_two():
    name, values = join_parameters((400.0, 410.0), (1.0, 2.0), Lens("SIMPLE_RADIAL", (0.1,)))
    assert (name, values) == ("OPENCV", [400.0, 410.0, 1.0, 2.0, 0.1, 0.0, 0.0, 0.0])


@given(st.floats(0.01, 3.1), st.floats(-math.pi, math.pi))
def test_a_fisheye_places_a_direction_at_its_angle(angle, around):
    direction = torch.tensor(
        [
            [
                math.sin(angle) * math.cos(around),
                math.sin(angle) * math.sin(around),
                math.cos(angle),
            ]
        ],
        dtype=torch.float64,
    )
    plane = project("FISHEYE", direction, torch.empty(0, dtype=torch.float64))
    # Rounding of sine and cosine near pi is magnified by 1 / sin: up to 1e-14.
    assert plane[0].tolist() == pytest.approx(
        [angle * math.cos(around), angle * math.sin(around)], abs=1e-12
    )
    back = unproject("FISHEYE", plane, torch.empty(0, dtype=torch.float64))
    torch.testing.assert_close(back, direction, atol=1e-12, rtol=0)


@settings(max_examples=50)
@given(
    st.floats(-0.4, 0.4),
    st.floats(-0.1, 0.1),
    st.floats(-0.01, 0.01),
    st.floats(-0.01, 0.01),
    st.integers(0, 2**31),
)
def test_an_inverse_is_exact_or_nan(k1, k2, p1, p2, seed):
    """Whatever the coefficients: never a wrong direction."""
    coefficients = torch.tensor([k1, k2, p1, p2], dtype=torch.float64)
    generator = torch.Generator().manual_seed(seed)
    plane = (torch.rand(64, 2, generator=generator, dtype=torch.float64) - 0.5) * 3
    directions = unproject("OPENCV", plane, coefficients)
    back = project("OPENCV", directions, coefficients)
    good = torch.isfinite(directions).all(1)
    torch.testing.assert_close(back[good], plane[good], atol=1e-11, rtol=1e-11)


def test_beyond_the_fold_there_is_no_answer():
    # u (1 - u^2 / 3) has its maximum, 2/3, at u = 1.
    coefficients = torch.tensor([-1 / 3], dtype=torch.float64)
    plane = torch.tensor([[0.66, 0.0], [0.67, 0.0]], dtype=torch.float64)
    inside, outside = torch.isfinite(unproject("SIMPLE_RADIAL", plane, coefficients)).all(1)
    assert bool(inside)
    assert not bool(outside)


def test_a_pinhole_sees_nothing_behind_it():
    behind = torch.tensor([[0.1, 0.2, -1.0], [0.1, 0.2, 0.0]], dtype=torch.float64)
    assert torch.isnan(project("PINHOLE", behind, torch.empty(0, dtype=torch.float64))).all()


def test_fov_without_an_angle_is_a_pinhole():
    direction = torch.tensor([[0.3, -0.2, 1.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
    zero = torch.zeros(1, dtype=torch.float64)
    torch.testing.assert_close(project("FOV", direction, zero), direction[:, :2])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Lens("OPENVC"), "There is no camera model 'OPENVC'. Did you mean 'OPENCV'?"),
        (
            lambda: Lens("RADIAL", (0.1,)),
            "Camera model RADIAL has 2 distortion coefficients (k1, k2), but 1 came.",
        ),
        (
            lambda: Lens("SIMPLE_RADIAL", (math.nan,)),
            "Camera model SIMPLE_RADIAL has a distortion coefficient that is not finite.",
        ),
        (
            lambda: split_parameters("PINHOLE", [1.0]),
            "Camera model PINHOLE has 4 parameters, but 1 came.",
        ),
    ],
)
def test_messages(make, message):
    with pytest.raises(DataError) as raised:
        make()
    assert str(raised.value).startswith(message)
