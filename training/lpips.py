"""LPIPS, the learned distance of pictures, with weights that the user has.

No weights come with this software and none are fetched. A safetensors file must hold the convolutions of
AlexNet and the five linear layers of LPIPS 0.1, under torchvision's and lpips' names:

    features.{0,3,6,8,10}.{weight,bias}      or  net.slice{1..5}.{0,3,6,8,10}.{weight,bias}
    lin{0..4}.model.1.weight                 or  lin{0..4}.weight

Whoever has the lpips package writes it with

    safetensors.torch.save_file({k: v.contiguous() for k, v in lpips.LPIPS(net="alex").state_dict().items()
                                 if not k.startswith("lins.")}, "lpips-alex.safetensors")

See: Zhang, Isola, Efros, Shechtman, Wang (2018), "The unreasonable effectiveness of deep features as a
perceptual metric"; Krizhevsky (2014), "One weird trick for parallelizing convolutional neural networks" for
the variant of AlexNet.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import conv2d, max_pool2d, relu

from polyfield.errors import DataError, InputError, ShapeError

__all__ = ["Lpips", "load_lpips"]

# Number in torchvision's `features`, inputs, outputs, kernel, stride, padding, and whether a 3 x 3
# maximum of stride 2 comes before.
_LAYERS = (
    (0, 3, 64, 11, 4, 2, False),
    (3, 64, 192, 5, 1, 2, True),
    (6, 192, 384, 3, 1, 1, True),
    (8, 384, 256, 3, 1, 1, False),
    (10, 256, 256, 3, 1, 1, False),
)

# Mean and deviation of ImageNet's colours, for pictures in [-1, 1], as in LPIPS 0.1.
_SHIFT = (-0.030, -0.088, -0.188)
_SCALE = (0.458, 0.448, 0.450)

_SMALLEST = 31  # below, the second maximum has nothing to choose from


class Lpips(nn.Module):
    """LPIPS 0.1 on AlexNet. Make one with `load_lpips`; new ones hold noise and measure nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(
            nn.Conv2d(inputs, outputs, kernel, stride, padding)
            for _, inputs, outputs, kernel, stride, padding, _ in _LAYERS
        )
        self.mixes = nn.ParameterList(torch.rand(1, layer[2], 1, 1) for layer in _LAYERS)
        self.requires_grad_(False)

    def forward(self, a: Float[Tensor, "H W 3"], b: Float[Tensor, "H W 3"]) -> Float[Tensor, ""]:
        """Measure how different two pictures look: 0 for equal ones, growing.

        Args:
            a: sRGB in [0, 1], at least 31 x 31.
            b: Likewise. Differentiable in both.

        Raises:
            ShapeError: The pictures differ in shape, have not three channels, or are too small.
        """
        height, width, channels = (*a.shape, 0, 0, 0)[:3]
        if a.shape != b.shape or channels != 3 or min(height, width) < _SMALLEST:
            raise ShapeError(
                f"LPIPS needs two pictures [H, W, 3] of one shape, at least {_SMALLEST} x "
                f"{_SMALLEST}, but got {list(a.shape)} and {list(b.shape)}."
            )
        total = a.new_zeros(())
        for mix, x, y in zip(self.mixes, self._features(a), self._features(b), strict=True):
            total = total + conv2d((x - y).square(), mix).mean()
        return total

    def _features(self, picture: Float[Tensor, "H W 3"]) -> Iterator[Tensor]:
        """What each layer answers, every pixel's answer scaled to length 1."""
        shift, scale = picture.new_tensor(_SHIFT), picture.new_tensor(_SCALE)
        x = ((2 * picture - 1 - shift) / scale).permute(2, 0, 1).unsqueeze(0)
        for layer, convolution in zip(_LAYERS, self.convolutions, strict=True):
            x = relu(convolution(max_pool2d(x, 3, 2) if layer[-1] else x))
            # The square root has no slope at 0, where a pixel answers nothing at all.
            length = x.square().sum(dim=1, keepdim=True).clamp_min(1e-20).sqrt()
            yield x / (length + 1e-10)


def load_lpips(path: Path | str) -> Lpips:
    """Read the weights of LPIPS from a safetensors file, see above for its names.

    Raises:
        InputError: There is no such file.
        DataError: It is no safetensors file, or a tensor is missing, of another shape, or not finite.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = Path(path)
    if not path.is_file():
        raise InputError(f"There is no LPIPS weights file {path}.")
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise DataError(f"{path} is not a safetensors file ({error}).") from None
    model = Lpips()
    state = {}
    for i, layer in enumerate(_LAYERS):
        number = layer[0]
        for part in ("weight", "bias"):
            names = (f"features.{number}.{part}", f"net.slice{i + 1}.{number}.{part}")
            state[f"convolutions.{i}.{part}"] = _tensor(tensors, names, path)
        state[f"mixes.{i}"] = _tensor(tensors, (f"lin{i}.model.1.weight", f"lin{i}.weight"), path)
    for name, wanted in model.state_dict().items():
        if state[name].shape != wanted.shape or not bool(state[name].isfinite().all()):
            raise DataError(
                f"{path}: the tensor for {name} must be finite and of shape {list(wanted.shape)}, "
                f"but its shape is {list(state[name].shape)}."
            )
    model.load_state_dict(state)
    return model


def _tensor(tensors: Mapping[str, Tensor], names: tuple[str, str], path: Path) -> Tensor:
    for name in names:
        if name in tensors:
            return tensors[name].float()
    raise DataError(
        f"{path} has no tensor {names[0]!r} (nor {names[1]!r}): these are not LPIPS weights for AlexNet."
    )
