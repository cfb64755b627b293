"""Colour from spherical harmonics: features are coefficients, the condition is the basis in the direction of view.

The last layer of Gaussian RBFNet's radiance fields (Bouzidi et al. 2025), and how Plenoxels, TensoRF and Gaussian
splatting store colours. No activation: a field's `color` says what follows.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int32
from torch import Generator, Tensor, nn

from polyfield import native
from polyfield.errors import ConfigError, ShapeError
from polyfield.fields.heads._joined import joined
from polyfield.fields.native_form import Gradient
from polyfield.fields.registry import ParameterGroup

__all__ = ["Config", "SphericalHarmonicsHead", "build"]


@dataclass(frozen=True)
class Config:
    """Spherical harmonics' coefficients to colours.

    Attributes:
        degree: Number of bands, 1 to 8; the direction encoder `spherical_harmonics` must have the same.
    """

    degree: int = 3

    def __post_init__(self) -> None:
        if not 1 <= self.degree <= 8:
            raise ConfigError(f"spherical_harmonics: degree must be in 1..8, but is {self.degree}.")


class SphericalHarmonicsHead(nn.Module):
    """Raw density and coefficients [N, 1 + O d^2] and the basis [R, d^2] to outputs [N, O].

    Output c is the sum over k of feature 1 + c d^2 + k times value k of the basis. Feature 0, the raw density, is left
    alone. Without a condition the basis are the last d^2 columns of the features.

    Args:
        degree: d, the number of bands.
        outputs: O.

    Example:
        >>> import torch
        >>> head = SphericalHarmonicsHead(degree=1, outputs=2)
        >>> head(torch.tensor([[9.0, 2.0, 3.0]]), torch.tensor([[0.5]]), torch.tensor([0])).tolist()
        [[1.0, 1.5]]
    """

    def __init__(self, degree: int, outputs: int) -> None:
        super().__init__()
        self.degree, self.outputs = degree, outputs

    def forward(
        self,
        x: Float[Tensor, "N x"],
        condition: Float[Tensor, "R c"] | None = None,
        rows: Int32[Tensor, " N"] | None = None,
    ) -> Float[Tensor, "N out"]:
        """Sum.

        Raises:
            ShapeError: Features and condition are not 1 + O d^2 + d^2 columns together.
        """
        terms = self.degree**2
        if condition is not None and rows is not None and condition.shape[1] == terms:
            features, basis = x, condition.index_select(0, rows)
        else:
            both = joined(x, condition, rows)
            features, basis = both[:, :-terms], both[:, -terms:]
        wanted = 1 + self.outputs * terms
        if features.shape[1] != wanted:
            raise ShapeError(
                f"spherical_harmonics: the head of degree {self.degree} takes {wanted} features and a basis of {terms} "
                f"values, but got {features.shape[1]} features beside the basis."
            )
        coefficients = features[:, 1:].unflatten(1, (self.outputs, terms))
        out: Tensor = (coefficients * basis[:, None]).sum(2)
        return out

    def span(
        self, outputs: Float[Tensor, "N K O"], conditions: Float[Tensor, "K C"]
    ) -> Float[Tensor, "N F"]:
        """Find coefficients: see `polyfield.fields.registry.Spanning`."""
        solve = torch.linalg.pinv(conditions.double()).to(outputs.dtype)
        coefficients: Tensor = (solve @ outputs).mT.flatten(1)
        return coefficients

    def native_network(self, gradient: Gradient) -> Any:
        """Make the native form: see `polyfield.fields.native_form`."""
        del gradient  # nothing is trained
        return native.core().HarmonicsHead(self.degree**2, self.outputs)

    def groups(self) -> list[ParameterGroup]:
        """Nothing is trained."""
        return []


def build(
    config: Config,
    inputs: int,
    outputs: int,
    generator: Generator,  # noqa: ARG001
) -> SphericalHarmonicsHead:
    """Make the head.

    Raises:
        ConfigError: The inputs are not those that the degree needs.
    """
    terms = config.degree**2
    wanted = 1 + outputs * terms
    if inputs != wanted + terms:
        raise ConfigError(
            f"spherical_harmonics: for {outputs} outputs, degree {config.degree} needs {wanted} features (the raw "
            f"density and {terms} for each output) and a direction encoder spherical_harmonics of the same degree, "
            f"{wanted + terms} inputs in all, but there are {inputs}."
        )
    return SphericalHarmonicsHead(config.degree, outputs)
