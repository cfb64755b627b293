"""Finding the parts of a field by name.

A slot ("encoders", "gates", "heads") is a folder; each file in it is one kind, called as the file is. The file offers

- `Config`: a frozen dataclass of plain values, every one with a default;
- `build(config, ..., generator)`: makes the module (arguments in `fields/encoders` and `fields/heads`).

Listing kinds imports nothing; a file is loaded when its kind is chosen. So adding an encoder is adding one file.
A config names a part as `{"kind": "hash_grid", "levels": 8}`: the kind, and whatever keys its `Config` has.

Encoders: `build(config, dim, generator) -> Encoder`. Gates: `build(config, dim, generator) -> Gate`. Heads:
`build(config, inputs, outputs, generator) -> Head`.

Parts may offer more. What data place before the first step: `Prepared`. A penalty of their own: `Regularised`. Numbers
that change with each step: `Following`. Sizes that change during training: `Growing`. Gates may close what they let
nothing through (`Closing`), and encoders then drop what is read there alone (`Dropping`): see
`polyfield.fields.pruning`. Parts that can take over what another field says without training: `Sampled`, `Invertible`
and `Spanning`, or `Summable` and `Summing`, see `polyfield.fields.construct`. A native form, which makes rendering and
training quicker: see `polyfield.fields.native_form`.
"""

import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar, Protocol, runtime_checkable

from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor, nn

from polyfield.config import from_json, to_json
from polyfield.errors import ConfigError, nearest
from polyfield.fields.ops.sparse_gradient import SparseGradient

__all__ = [
    "Change",
    "Closing",
    "Dropping",
    "Encoder",
    "Following",
    "Gate",
    "Growing",
    "Head",
    "Invertible",
    "ParameterGroup",
    "Prepared",
    "Regularised",
    "Resize",
    "Sampled",
    "Spanning",
    "Summable",
    "Summing",
    "build_encoder",
    "build_gate",
    "build_head",
    "complete",
    "kinds",
    "register",
]


@dataclass
class ParameterGroup:
    """Parameters that are trained alike.

    Attributes:
        name: Says which part of the field it is; unique after the field has put its slot's name before it.
        parameters: What is trained.
        rate: Factor on the learning rate of the run.
        decay: L2 penalty (added to the gradient).
        gradient: Where the backward pass of the only parameter accumulates when it does so sparsely, else None.
    """

    name: str
    parameters: list[nn.Parameter]
    rate: float = 1.0
    decay: float = 0.0
    gradient: SparseGradient | None = field(default=None, repr=False)


class Encoder(Protocol):
    """Coordinates [N, D] in [0, 1] (directions: unit vectors) to features [N, F], float32."""

    out_dim: int

    def __call__(self, x: Tensor) -> Tensor:
        """Encode."""
        ...

    def groups(self) -> list[ParameterGroup]:
        """List what is trained; empty when nothing is."""
        ...


class Gate(Protocol):
    """Coordinates [N, D] and their features [N, F] to features [N, F] and a factor on density [N]."""

    def __call__(self, x: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """Let through."""
        ...

    def groups(self) -> list[ParameterGroup]:
        """List what is trained."""
        ...


class Head(Protocol):
    """Features [N, F] and a condition [R, C] picked by `rows` [N] to outputs [N, O].

    Attributes:
        wants_coordinates: Whether the head is modulated by coordinates; it then has one more argument, `coordinates`,
            which other heads lack: points in [0, 1]^D, or unit vectors where it decodes colour. Left out: False.
        wants_directions: Whether these are directions where it decodes density too. Left out: False.
        pointwise: Whether it treats points one by one. A head that does not has one more argument, `rays` [N], which
            ray each point is a sample of (None: each is a ray of its own), and needs all samples of a ray at once.
            Left out: True.
    """

    wants_coordinates: ClassVar[bool] = False

    def __call__(
        self, x: Tensor, condition: Tensor | None = None, rows: Tensor | None = None
    ) -> Tensor:
        """Decode."""
        ...

    def groups(self) -> list[ParameterGroup]:
        """List what is trained."""
        ...


@runtime_checkable
class Prepared(Protocol):
    """A part that places what it holds by data, once, before the first step."""

    def prepare(
        self,
        points: Float[Tensor, "M D"],
        weights: Float[Tensor, " M"],
        extent: Float[Tensor, " D"],
        generator: Generator,
    ) -> None:
        """Place.

        Args:
            points: In [0, 1]^D.
            weights: At least 0: how much each matters.
            extent: Lengths of the unit cube's sides: distances are to be taken between points times this.
            generator: Of whatever is drawn.
        """
        ...


@runtime_checkable
class Regularised(Protocol):
    """A part with a penalty of its own."""

    def regularise(self, progress: float) -> None:
        """Add the gradient of the penalty to what the step has gathered; `progress` of the run is in [0, 1].

        Nothing that is saved may change: a run may end here, and begin again with this gradient.
        """
        ...


@runtime_checkable
class Following(Protocol):
    """A part with numbers that are not trained and yet change with each step, such as a multiplier."""

    def follow(self, progress: float) -> None:
        """Change them. Called after every step, but not after a gradient that no step follows.

        Args:
            progress: Of the run at that step, in [0, 1].
        """
        ...


@dataclass(frozen=True)
class Resize:
    """A parameter that another took the place of.

    Attributes:
        old, new: The two.
        rows: For each row of `new` the row of `old` whose moments it inherits, or -1; None: all begin anew.
        gradient: Sparse gradient of `new`, if it has one.
    """

    old: nn.Parameter
    new: nn.Parameter
    rows: Int[Tensor, " E"] | None = None
    gradient: SparseGradient | None = None


@dataclass(frozen=True)
class Change:
    """What became of a part that changed its size.

    Attributes:
        config: The keys of its config that now say something else: a part built from them has tensors of the new sizes.
        resizes: Its tensors.
    """

    config: dict[str, Any]
    resizes: list[Resize]


@runtime_checkable
class Growing(Protocol):
    """A part whose sizes change during training: grids that are refined, or lose what is empty."""

    def grow(
        self, progress: float, occupied: Callable[[Float[Tensor, "M D"]], Tensor]
    ) -> Change | None:
        """Change if it is time to, else None. Called after every step.

        Args:
            progress: Of the run, in [0, 1].
            occupied: Says of points in [0, 1]^D which may hold something, as bools [M].
        """
        ...


@runtime_checkable
class Closing(Protocol):
    """A gate that can be closed, for good, where it lets next to nothing through.

    The field asks `open` first: elsewhere features and density count as 0, and neither encoder nor gate is asked.
    """

    def close(self, below: float) -> tuple[dict[str, Any], Bool[Tensor, "..."]]:
        """Close cells; say what its config now says otherwise, and which cells of [0, 1]^D are open, first axis first.

        Args:
            below: What is less counts as nothing.
        """
        ...

    def open(self, x: Float[Tensor, "N D"]) -> Bool[Tensor, " N"] | None:
        """Say which points lie in open cells; None: all."""
        ...


@runtime_checkable
class Dropping(Protocol):
    """An encoder that can drop what only some places need."""

    def drop(self, cells: Bool[Tensor, "..."]) -> None:
        """Make all rows of its tables 0 that no point in these cells of [0, 1]^D reads."""
        ...


@runtime_checkable
class Sampled(Protocol):
    """An encoder that is told its features at places of its own, and interpolates."""

    def sample(
        self,
        features: Callable[[Float[Tensor, "M D"], float], Float[Tensor, "M F"]],
        occupied: Callable[[Float[Tensor, "M D"]], Tensor],
    ) -> Change:
        """Take over, with the sizes that it is to have in the end.

        Args:
            features: Gives them around points of [0, 1]^D that lie so far apart from each other.
            occupied: Says of points in [0, 1]^D which may hold something, as bools [M].
        """
        ...


@runtime_checkable
class Invertible(Protocol):
    """A head that can be undone."""

    def invert(self, outputs: Float[Tensor, "N O"]) -> Float[Tensor, "N F"]:
        """Find features of which it makes these outputs."""
        ...


@runtime_checkable
class Spanning(Protocol):
    """A head whose outputs are linear in the features behind the first, for any condition."""

    def span(
        self, outputs: Float[Tensor, "N K O"], conditions: Float[Tensor, "K C"]
    ) -> Float[Tensor, "N F"]:
        """Find these features: least squares over K conditions."""
        ...


@runtime_checkable
class Summable(Protocol):
    """An encoder that can be told what its features are to add up to."""

    def sum_to(
        self,
        bounds: Callable[
            [Float[Tensor, "M D"], float], tuple[Float[Tensor, " M"], Float[Tensor, " M"]]
        ],
        occupied: Callable[[Float[Tensor, "M D"]], Tensor],
    ) -> None:
        """Take over, as nearly as it can; it keeps its size.

        Args:
            bounds: Gives the least and the most that the sum is to be around points of [0, 1]^D that lie so far apart
                from each other; infinite where it may be anything on that side.
            occupied: Says of points in [0, 1]^D which may hold something, as bools [M]. Elsewhere nothing is wanted.
        """
        ...


@runtime_checkable
class Summing(Protocol):
    """A head that looks only at the sum of the features, and gives one output."""

    def total(self, outputs: Float[Tensor, "N 1"]) -> Float[Tensor, " N"]:
        """Find the sums of which it makes these outputs."""
        ...


_registered: dict[tuple[str, str], ModuleType | Any] = {}


def register(slot: str, kind: str, module: Any) -> None:
    """Add a kind from outside the package: `module` offers `Config` and `build` as a file of the slot would.

    Raises:
        ConfigError: The slot has that kind already.
    """
    if kind in kinds(slot):
        raise ConfigError(f"The {slot} already have the kind {kind!r}; choose another name.")
    _registered[slot, kind] = module


def kinds(slot: str) -> list[str]:
    """Name the kinds of a slot, sorted, without importing any."""
    folder = Path(__file__).parent / slot
    inside = {m.name for m in pkgutil.iter_modules([str(folder)]) if not m.name.startswith("_")}
    return sorted(inside | {kind for s, kind in _registered if s == slot})


def _find(slot: str, kind: object) -> Any:
    if not isinstance(kind, str) or kind not in kinds(slot):
        raise ConfigError(f"There is no {slot[:-1]} {kind!r}.{nearest(str(kind), kinds(slot))}")
    if (slot, kind) in _registered:
        return _registered[slot, kind]
    return import_module(f"polyfield.fields.{slot}.{kind}")


def _read(slot: str, data: Mapping[str, Any]) -> tuple[Any, Any]:
    if "kind" not in data:
        raise ConfigError(f"The {slot[:-1]} needs a kind.{nearest('', kinds(slot))}")
    module = _find(slot, data["kind"])
    rest = {key: value for key, value in data.items() if key != "kind"}
    return module, from_json(module.Config, rest, f"{slot[:-1]} {data['kind']!r}")


def complete(slot: str, data: Mapping[str, Any]) -> dict[str, Any]:
    """Fill a part's config with the defaults of its kind, so that every key is there.

    Example:
        >>> complete("encoders", {"kind": "frequency"})["kind"]
        'frequency'
    """
    _, config = _read(slot, data)
    return {"kind": data["kind"], **to_json(config)}


def build_encoder(data: Mapping[str, Any], dim: int, generator: Generator) -> Any:
    """Build the encoder that a config names, for inputs [N, dim]."""
    module, config = _read("encoders", data)
    return module.build(config, dim, generator)


def build_gate(data: Mapping[str, Any], dim: int, generator: Generator) -> Any:
    """Build the gate that a config names, for coordinates [N, dim]."""
    module, config = _read("gates", data)
    return module.build(config, dim, generator)


def build_head(data: Mapping[str, Any], inputs: int, outputs: int, generator: Generator) -> Any:
    """Build the head that a config names."""
    module, config = _read("heads", data)
    return module.build(config, inputs, outputs, generator)
