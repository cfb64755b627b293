"""Coordinate-aware modulation: the base network, counts of the paper, grids and angles."""

import pytest
import torch
from torch import Generator, Tensor, nn

from polyfield.errors import ConfigError, ShapeError
from polyfield.fields.heads.cam import Cam, Config, angles, build


def head(config: Config, inputs: int = 12, outputs: int = 3) -> Cam:
    return build(config, inputs, outputs, Generator().manual_seed(0))


def numbers(*size: int, seed: int = 0) -> Tensor:
    return torch.randn(*size, generator=Generator().manual_seed(seed))


def base(part: Cam, x: Tensor) -> Tensor:
    """The network without modulation, by torch alone."""
    h, shape = x, part.shape
    for layer, (matrix, bias) in enumerate(
        zip(shape.split(part.weights), shape.biases(part.weights), strict=True)
    ):
        if layer in shape.skips:
            h = torch.cat([h, x], 1)
        h = h @ matrix.t() + bias
        if layer < shape.hidden:
            if part.config.norm == "feature":
                h = nn.functional.layer_norm(h, (shape.width,), eps=1e-5)
            h = h.relu()
    return h.sigmoid() if shape.output_activation == "sigmoid" else h


@pytest.mark.parametrize("norm", ["feature", "none"])
def test_at_first_it_is_the_base_network(norm: str) -> None:
    part = head(Config(width=20, hidden=3, norm=norm, skips=(2,), output_activation="sigmoid"))
    x = numbers(100, 12)
    found = part(x, coordinates=torch.rand(100, 3, generator=Generator().manual_seed(1)))
    # The weights of 8 vertices sum to 1 but for some last digits.
    assert torch.allclose(found, base(part, x), atol=1e-5)


@pytest.mark.parametrize(
    ("config", "grids"),
    [
        (Config(width=256, hidden=3, sides=(32, 32)), 6144),  # the paper's pictures
        (Config(width=256, hidden=8, sides=(10, 3), angles=True, skips=(5,)), 480),  # and radiance
    ],
)
def test_grids_are_as_small_as_in_the_paper(config: Config, grids: int) -> None:
    part = head(config)
    assert part.grids.numel() == grids
    assert sum(p.numel() for p in part.parameters()) == part.shape.parameters + grids


def test_a_pair_of_grids_scales_and_shifts_its_layer() -> None:
    part = head(Config(width=16, hidden=2, sides=(2, 3)))
    x, corner = numbers(50, 12), torch.tensor([1.0, 0.5]).expand(50, 2)
    with torch.no_grad():
        part.grids[1, 1] = torch.tensor([0.5, 0.25, 2.0, -0.5])  # second axis first
    (w0, w1, w2), (b0, b1, b2) = part.shape.split(part.weights), part.shape.biases(part.weights)
    norm = lambda z: nn.functional.layer_norm(z, (16,), eps=1e-5)  # noqa: E731
    h = (0.5 * norm(x @ w0.t() + b0) + 0.25).relu()
    h = (2.0 * norm(h @ w1.t() + b1) - 0.5).relu()
    assert torch.allclose(part(x, coordinates=corner), h @ w2.t() + b2, atol=1e-5)
    # Halfway to a vertex that is as it was.
    halfway = torch.tensor([0.5, 0.5]).expand(50, 2)
    h = (0.75 * norm(x @ w0.t() + b0) + 0.125).relu()
    h = (1.5 * norm(h @ w1.t() + b1) - 0.25).relu()
    assert torch.allclose(part(x, coordinates=halfway), h @ w2.t() + b2, atol=1e-5)


def test_gradients_reach_weights_grids_features_and_coordinates() -> None:
    part = head(Config(width=16, sides=(4, 4)))
    with torch.no_grad():
        part.grids += 0.1 * numbers(*part.grids.shape, seed=5)
    x, c = numbers(30, 12).requires_grad_(), torch.rand(30, 2, generator=Generator().manual_seed(1))
    c.requires_grad_()
    part(x, coordinates=c).square().sum().backward()
    for tensor in (x, c, part.weights, part.grids):
        assert tensor.grad is not None
        assert tensor.grad.isfinite().all()
        assert tensor.grad.any()


def test_the_azimuth_goes_around() -> None:
    part = head(Config(width=8, sides=(10, 3), angles=True))
    with torch.no_grad():
        part.grids += 0.3 * numbers(*part.grids.shape, seed=5)
    x = numbers(1, 12).expand(2, 12)
    seam = torch.tensor([[-1.0, 1e-6, 0.3], [-1.0, -1e-6, 0.3]])
    one, other = part(x, coordinates=nn.functional.normalize(seam, dim=1))
    # 2e-6 apart in angle, on a grid that changes by some 1 a vertex.
    assert torch.allclose(one, other, atol=1e-4)
    wide = torch.tensor([[-1.0, 0.3, 0.3], [-1.0, -0.3, 0.3]])
    one, other = part(x, coordinates=nn.functional.normalize(wide, dim=1))
    assert not torch.allclose(one, other, atol=1e-2)


def test_angles_of_axes_and_poles() -> None:
    axes = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]])
    wanted = torch.tensor([[0.5, 0.5], [0.75, 0.5], [0.25, 0.5], [0.5, 1.0], [0.5, 0.0]])
    assert torch.allclose(angles(axes), wanted, atol=1e-6)
    leaves = axes.clone().requires_grad_()
    angles(leaves).sum().backward()
    assert leaves.grad is not None
    assert leaves.grad.isfinite().all()
    around = angles(nn.functional.normalize(numbers(500, 3), dim=1))
    assert ((around >= 0) & (around <= 1)).all()


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ConfigError, match='norm must be "feature", "ray" or "none", but is'):
        Config(norm="rows")
    with pytest.raises(ConfigError, match="sides must be two numbers, of azimuth and elevation"):
        Config(angles=True)
    with pytest.raises(ConfigError, match=r"sides must be one to three .* but are \[\]"):
        Config(sides=())
    with pytest.raises(ConfigError, match="needs 2 to 2"):
        head(Config(sides=(1,)))
    with pytest.raises(ConfigError, match="runs along 1 to 3"):
        head(Config(sides=(2, 2, 2, 2)))
    part, turned = head(Config(sides=(4, 4))), head(Config(sides=(4, 4), angles=True))
    x = torch.zeros(5, 12)
    with pytest.raises(ShapeError, match=r"coordinates must be \[N, 2\], but are \[5, 3\]"):
        part(x, coordinates=torch.zeros(5, 3))
    with pytest.raises(ShapeError, match=r"directions must be \[N, 3\], but are \[5, 2\]"):
        turned(x, coordinates=torch.zeros(5, 2))
    with pytest.raises(ShapeError, match=r"must be \[4, 12\] together.*but are \[5, 12\]"):
        part(x, coordinates=torch.zeros(4, 2))
