"""Which renderer draws which kind of model.

Evaluation, rendering, the viewer, conversion and meshing know a model only through its renderer.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from jaxtyping import Float
from torch import Tensor

from polyfield.errors import ConfigError, nearest
from polyfield.fields.model import Model

__all__ = ["Rendered", "Renderer", "register_renderer", "renderer_for"]


@dataclass
class Rendered:
    """What R rays see.

    Attributes:
        color: sRGB in [0, 1], the background included.
        depth: Mean distance along the ray to what is seen, weighted by opacity; 0 where nothing is. World units.
        opacity: In [0, 1].
        samples: How many samples were evaluated.
    """

    color: Float[Tensor, "R 3"]
    depth: Float[Tensor, " R"]
    opacity: Float[Tensor, " R"]
    samples: int


class Renderer(Protocol):
    """Draws one model."""

    def render_rays(
        self,
        origins: Float[Tensor, "R 3"],
        directions: Float[Tensor, "R 3"],
        background: Float[Tensor, "R 3"],
    ) -> Rendered:
        """Draw rays; directions are unit vectors, everything in world units."""
        ...

    def state(self) -> dict[str, Tensor]:
        """Tensors that the model's file keeps for this renderer."""
        ...


Factory = Callable[[Model], Renderer]


def _volume(model: Model) -> Renderer:
    from polyfield.renderers.volume import VolumeRenderer

    return VolumeRenderer(model)


_FACTORIES: dict[str, Factory] = {"radiance": _volume}


def register_renderer(kind: str, factory: Factory) -> None:
    """Say how a kind of model is drawn.

    Raises:
        ConfigError: It has a renderer already.
    """
    if kind in _FACTORIES:
        raise ConfigError(f"Models of kind {kind!r} have a renderer already.")
    _FACTORIES[kind] = factory


def renderer_for(model: Model) -> Renderer:
    """Make the renderer of a model, from its config and its renderer state.

    Raises:
        ConfigError: Nothing draws this kind.
    """
    if model.kind not in _FACTORIES:
        raise ConfigError(
            f"Nothing draws models of kind {model.kind!r}.{nearest(model.kind, _FACTORIES)}"
        )
    return _FACTORIES[model.kind](model)
