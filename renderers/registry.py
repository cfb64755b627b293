"""Which renderer draws which kind of model.

Evaluation, rendering, the viewer, conversion and meshing know a model only through its renderer.
"""

from collections.abc import Callable

from polyfield.errors import ConfigError, DataError, nearest
from polyfield.fields.model import Model
from polyfield.renderers.rendered import Renderer

__all__ = ["register_renderer", "renderer_for"]


Factory = Callable[[Model], Renderer]


def _volume(model: Model) -> Renderer:
    from polyfield.renderers.volume import VolumeRenderer

    return VolumeRenderer(model)


def _shape(model: Model) -> Renderer:
    from polyfield.renderers.sphere_trace import ShapeRenderer

    return ShapeRenderer(model)


_FACTORIES: dict[str, Factory] = {
    "radiance": _volume,
    "sdf": _shape,
    "udf": _shape,
    "occupancy": _shape,
}


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
        DataError: The model brings renderer state of which its renderer knows nothing.
    """
    if model.kind not in _FACTORIES:
        raise ConfigError(
            f"Nothing draws models of kind {model.kind!r}.{nearest(model.kind, _FACTORIES)}"
        )
    renderer = _FACTORIES[model.kind](model)
    if model.renderer_state:
        known = renderer.state()
        for name in model.renderer_state.keys() - known.keys():
            raise DataError(
                f"The field has a tensor 'renderer.{name}' that its renderer does not know."
                f"{nearest(name, known)}"
            )
    return renderer
