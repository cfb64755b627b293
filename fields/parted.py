"""What all fields have in common: they are made of parts that fill slots."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, ClassVar

from torch import Tensor, nn

from polyfield.fields.registry import (
    Change,
    Following,
    Growing,
    ParameterGroup,
    Regularised,
    Resize,
    complete,
)

__all__ = ["PartedField", "decode", "fill_slots"]


def fill_slots(config: Any, slots: Mapping[str, str]) -> None:
    """Fill the configs of a field's parts with the defaults of their kinds, in a frozen dataclass.

    Args:
        config: Its attributes named in `slots` are parts' configs, or None.
        slots: Attribute to slot of the registry.

    Raises:
        ConfigError: An unknown kind, key or value.
    """
    for name, kind in slots.items():
        part = getattr(config, name)
        if part is not None:
            object.__setattr__(config, name, complete(kind, part))


def decode(
    head: Any,
    coordinates: Callable[[], Tensor | None],
    *given: Tensor,
    rays: Tensor | None = None,
) -> Tensor:
    """Run a head, with coordinates where it is modulated by them, and rays where it sees these as a whole.

    Args:
        head: See `polyfield.fields.registry.Head`.
        coordinates: Gives them; called only where they are wanted.
        given: The head's other arguments.
        rays: The ray of each point; None: each is a ray of its own.
    """
    named: dict[str, Tensor | None] = {}
    if getattr(head, "wants_coordinates", False):
        named["coordinates"] = coordinates()
    if not getattr(head, "pointwise", True):
        named["rays"] = rays
    out: Tensor = head(*given, **named)
    return out


class PartedField(nn.Module):
    """A field made of parts.

    Attributes:
        slots: The names of its parts, each an attribute here and in the config, and the registry's slot of each.
        config: A frozen dataclass.
    """

    slots: ClassVar[Mapping[str, str]]
    config: Any

    def parts(self) -> dict[str, Any]:
        """The parts by name; slots that are not filled are left out."""
        filled = {name: getattr(self, name) for name in self.slots}
        return {name: part for name, part in filled.items() if part is not None}

    def groups(self) -> list[ParameterGroup]:
        """List what is trained, with the part's name before the group's own."""
        groups = []
        for name, part in self.parts().items():
            for group in part.groups():
                group.name = f"{name}.{group.name}"
                groups.append(group)
        return groups

    def regularise(self, progress: float) -> None:
        """Add the gradients of the parts' own penalties."""
        for part in self.parts().values():
            if isinstance(part, Regularised):
                part.regularise(progress)

    def after_step(self, progress: float, occupied: Callable[[Tensor], Tensor]) -> list[Resize]:
        """Let parts follow a step, and change their sizes if it is time to; `config` then says so.

        Args:
            progress: Of the run at that step, in [0, 1].
            occupied: Says of points in [0, 1]^D which may hold something.

        Returns:
            Which parameters took the place of which.
        """
        resizes = []
        for name, part in self.parts().items():
            if isinstance(part, Following):
                part.follow(progress)
            change = part.grow(progress, occupied) if isinstance(part, Growing) else None
            if change is not None:
                resizes += self.changed(name, change)
        return resizes

    def changed(self, name: str, change: Change) -> list[Resize]:
        """Note that a part changed its size; give what it resized."""
        now = {**getattr(self.config, name), **change.config}
        self.config = replace(self.config, **{name: now})
        return change.resizes
