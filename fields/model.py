"""Models: a field with everything that is needed to show it, evaluate it and convert it.

A model's `kind` says what it is: "radiance" a radiance field, "image" the colours of an image, "sphere" those of a
sphere, "sdf" the signed distance to a surface, "udf" the unsigned one, "occupancy" what is inside one. Rendering,
evaluation and files know kinds only by name: `register_kind` adds one here, `polyfield.renderers.register_renderer`
says how it is drawn.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from polyfield.config import from_json, to_json
from polyfield.errors import ConfigError, InputError, nearest
from polyfield.fields.domain import build_domain
from polyfield.fields.radiance import RadianceConfig, RadianceField
from polyfield.fields.signal import (
    Globe,
    Picture,
    SignalConfig,
    SignalField,
    Solid,
    UnsignedField,
)

__all__ = ["Model", "build_model", "register_kind", "require_pointwise"]


@dataclass
class Model:
    """What a field file holds.

    Attributes:
        kind: Which registered kind of model.
        config: JSON: everything that `build_model` needs to make the module again, under the key "field", the domain
            under "domain"; and under "render" what the renderer needs.
        module: The weights.
        background: What shows where nothing is, sRGB in [0, 1].
        renderer_state: Tensors of the renderer, for example the occupancy bits.
        capture: Tensors of the cameras it was trained from (poses, intrinsics; no pixels).
        info: JSON facts that nothing depends on: names of the views, their split, steps, version, protocol.
    """

    kind: str
    config: dict[str, Any]
    module: nn.Module
    background: tuple[float, float, float] = (1.0, 1.0, 1.0)
    renderer_state: dict[str, Tensor] = field(default_factory=dict)
    capture: dict[str, Tensor] = field(default_factory=dict)
    info: dict[str, Any] = field(default_factory=dict)


Builder = Callable[[dict[str, Any], int], tuple[dict[str, Any], nn.Module]]


def _build_radiance(config: dict[str, Any], seed: int) -> tuple[dict[str, Any], nn.Module]:
    domain = build_domain(config["domain"])
    radiance = from_json(RadianceConfig, config["field"], "field")
    return {**config, "field": to_json(radiance)}, RadianceField(radiance, domain, seed)


def _signal_on(
    domain_class: type[Picture] | type[Globe] | type[Solid],
    field_class: type[SignalField] = SignalField,
) -> Builder:
    """Build signal fields on a domain."""

    def build(config: dict[str, Any], seed: int) -> tuple[dict[str, Any], nn.Module]:
        domain = from_json(domain_class, config["domain"], "domain")
        signal = from_json(SignalConfig, config["field"], "field")
        field = field_class(signal, domain.dim, domain.channels, seed)
        return {**config, "field": to_json(signal), "domain": to_json(domain)}, field

    return build


_KINDS: dict[str, Builder] = {
    "radiance": _build_radiance,
    "image": _signal_on(Picture),
    "sphere": _signal_on(Globe),
    "sdf": _signal_on(Solid),
    "udf": _signal_on(Solid, UnsignedField),
    "occupancy": _signal_on(Solid),
}


def register_kind(kind: str, build: Builder) -> None:
    """Add a kind of model.

    Args:
        kind: Its name, as files and renderers will know it.
        build: From a config and a seed to the completed config and the module. It must work on torch's device "meta"
            too, where files are compared with their configs before any memory is taken.

    Raises:
        ConfigError: There is such a kind already.
    """
    if kind in _KINDS:
        raise ConfigError(f"There is a kind of model {kind!r} already; choose another name.")
    _KINDS[kind] = build


def build_model(kind: object, config: dict[str, Any], seed: int = 0) -> Model:
    """Make a model with initial weights.

    Raises:
        ConfigError: An unknown kind, key or value.
    """
    if not isinstance(kind, str) or kind not in _KINDS:
        raise ConfigError(f"There is no kind of model {kind!r}.{nearest(str(kind), _KINDS)}")
    for key in ("field", "domain"):
        if key not in config:
            raise ConfigError(f"The config of a {kind} model lacks {key!r}.")
    complete, module = _KINDS[kind](config, seed)
    return Model(kind=kind, config=complete, module=module)


def require_pointwise(model: Model, what: str) -> None:
    """Refuse a model that has no value at a single point.

    Args:
        model: What is asked.
        what: Who asks for single points, as the subject of a sentence: "Mesh extraction".

    Raises:
        InputError: Its field looks at all samples of a ray together, or its density depends on the direction.
    """
    if not getattr(model.module, "pointwise", True):
        raise InputError(
            f"{what} asks for single points, but this field has values on whole rays only (a head cam that normalises "
            'over rays, or modulates density by directions). Train one of preset "cam" instead.'
        )
