"""LPIPS with seeded random weights: laws, the formula written out, and what files are refused."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional

from polyfield.errors import DataError, InputError, ShapeError
from polyfield.training.lpips import load_lpips

SHAPES = {0: (64, 3, 11, 11), 3: (192, 64, 5, 5), 6: (384, 192, 3, 3), 8: (256, 384, 3, 3)}
SHAPES[10] = (256, 256, 3, 3)


def weights(style: str = "torchvision") -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for i, (number, shape) in enumerate(SHAPES.items()):
        there = f"features.{number}" if style == "torchvision" else f"net.slice{i + 1}.{number}"
        size = torch.tensor(shape[1:]).prod() ** 0.5
        tensors[f"{there}.weight"] = torch.randn(shape, generator=generator) / size
        tensors[f"{there}.bias"] = torch.randn(shape[0], generator=generator) * 0.1
        name = f"lin{i}.model.1.weight" if style == "torchvision" else f"lin{i}.weight"
        tensors[name] = torch.rand(1, shape[0], 1, 1, generator=generator)
    return tensors


def pictures(height: int = 40, width: int = 56) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    a = torch.rand(height, width, 3, generator=generator)
    return a, (a + 0.1 * torch.randn(a.shape, generator=generator)).clamp(0, 1)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lpips") / "weights.safetensors"
    save_file(weights(), path)
    return path


def test_equal_pictures_are_no_distance_apart_and_order_does_not_matter(file: Path) -> None:
    lpips = load_lpips(file)
    a, b = pictures()
    assert lpips(a, a) == 0
    assert lpips(a, b) == lpips(b, a)
    assert 0 < lpips(a, a + 0.1 * (b - a)) < lpips(a, b)


def test_it_is_the_formula_written_out(file: Path) -> None:
    tensors = weights()
    strides, pads, pools = (4, 1, 1, 1, 1), (2, 2, 1, 1, 1), (0, 1, 1, 0, 0)
    answers = []
    for picture in pictures():
        shift, scale = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
        x = torch.stack(
            [(picture[..., c].double() * 2 - 1 - shift[c]) / scale[c] for c in range(3)]
        )[None]
        layers = []
        for number, stride, pad, pool in zip(SHAPES, strides, pads, pools, strict=True):
            if pool:
                x = functional.max_pool2d(x, kernel_size=3, stride=2)
            kernel, bias = (tensors[f"features.{number}.{p}"].double() for p in ("weight", "bias"))
            x = functional.conv2d(x, kernel, bias, stride=stride, padding=pad).clamp_min(0)
            layers.append(functional.normalize(x, dim=1))
        answers.append(layers)
    expected = 0.0
    for i, (x, y) in enumerate(zip(*answers, strict=True)):
        mix = tensors[f"lin{i}.model.1.weight"].double()[0]
        expected += float(((x - y)[0] ** 2 * mix).sum(dim=0).mean())
    # float32 convolutions of a few thousand terms against float64.
    assert float(load_lpips(file)(*pictures())) == pytest.approx(expected, rel=1e-4)


def test_both_ways_to_name_the_weights_are_understood(file: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    save_file({**weights("lpips"), "scaling_layer.shift": torch.zeros(1)}, other)
    assert load_lpips(other)(*pictures()) == load_lpips(file)(*pictures())


def test_gradients_reach_the_picture_and_stay_finite(file: Path) -> None:
    lpips = load_lpips(file).double()
    a, b = (picture.double() for picture in pictures(31, 31))
    a.requires_grad_()
    lpips(a, b).backward()
    assert a.grad is not None
    direction = torch.randn(
        a.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64
    )
    step = 1e-6
    with torch.no_grad():
        slope = (lpips(a + step * direction, b) - lpips(a - step * direction, b)) / (2 * step)
    assert float((a.grad * direction).sum()) == pytest.approx(float(slope), rel=1e-4)
    assert not any(parameter.requires_grad for parameter in lpips.parameters())
    dark = torch.zeros(31, 31, 3, dtype=torch.float64, requires_grad=True)
    lpips(dark, b).backward()
    assert dark.grad is not None
    assert dark.grad.isfinite().all()


def test_pictures_that_do_not_fit_are_refused(file: Path) -> None:
    lpips = load_lpips(file)
    a, _ = pictures()
    for wrong in (a[:30], a[..., :1], torch.zeros(40)):
        with pytest.raises(ShapeError, match="LPIPS needs two pictures"):
            lpips(wrong, wrong)
    with pytest.raises(ShapeError, match=r"\[40, 56, 3\] and \[40, 50, 3\]"):
        lpips(a, a[:, :50])


def test_files_that_are_no_weights_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    with pytest.raises(InputError, match="There is no LPIPS weights file"):
        load_lpips(path)
    path.write_bytes(b"nothing")
    with pytest.raises(DataError, match="is not a safetensors file"):
        load_lpips(path)
    tensors = weights()
    del tensors["features.6.bias"]
    save_file(tensors, path)
    with pytest.raises(DataError, match=r"has no tensor 'features\.6\.bias'"):
        load_lpips(path)
    save_file({**weights(), "lin2.model.1.weight": torch.zeros(1, 192, 1, 1)}, path)
    with pytest.raises(DataError, match=r"mixes\.2 must be .* shape \[1, 384, 1, 1\]"):
        load_lpips(path)
    save_file({**weights(), "features.0.bias": torch.full((64,), torch.inf)}, path)
    with pytest.raises(DataError, match="must be finite"):
        load_lpips(path)
