"""Configs are data: frozen dataclasses to and from JSON, strictly.

No class paths, no pickle. A field may be bool, int, float, str, None, a tuple of these, a nested dataclass, a union
of them with None, or `Slot` data (a dict with a "kind", kept as it is and read later by the registry that knows it).
An unknown key, a missing one or a value of the wrong kind is a `ConfigError` that names the place and the nearest key.
"""

import dataclasses
import json
import math
import types
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from polyfield.errors import ConfigError, DataError, nearest
from polyfield.files import parse_json

__all__ = ["from_json", "to_json", "with_changes"]

T = TypeVar("T")


def to_json(config: Any) -> Any:
    """Turn a config into plain JSON values (dicts, lists, numbers, strings, None)."""
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        return {f.name: to_json(getattr(config, f.name)) for f in dataclasses.fields(config)}
    if isinstance(config, Mapping):
        return {str(key): to_json(value) for key, value in config.items()}
    if isinstance(config, tuple | list):
        return [to_json(value) for value in config]
    return config


def from_json(cls: type[T], data: object, where: str = "config") -> T:
    """Read a config of type `cls`.

    Args:
        cls: A dataclass.
        data: What `json.load` gave.
        where: How to call this place in error messages.

    Raises:
        ConfigError: An unknown or missing key, a value of the wrong kind, or one that the dataclass refuses.

    Example:
        >>> @dataclasses.dataclass(frozen=True)
        ... class Grid:
        ...     levels: int = 16
        >>> from_json(Grid, {"levels": 8})
        Grid(levels=8)
    """
    if not isinstance(data, Mapping):
        raise ConfigError(
            f"{where} must be an object with named values, but is {json.dumps(data)[:60]}."
        )
    hints = get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}  # type: ignore[arg-type]
    for key in data:
        if key not in fields:
            raise ConfigError(f"{where} has no key {key!r}.{nearest(str(key), fields)}")
    values: dict[str, Any] = {}
    for name, field in fields.items():
        if name in data:
            values[name] = _read(hints[name], data[name], f"{where}.{name}")
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise ConfigError(f"{where} lacks the key {name!r}.")
    try:
        return cls(**values)
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from None


def _read(hint: Any, value: Any, where: str) -> Any:
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        options = get_args(hint)
        if value is None and type(None) in options:
            return None
        errors = []
        for option in (o for o in options if o is not type(None)):
            try:
                return _read(option, value, where)
            except ConfigError as error:
                errors.append(error)
        raise errors[-1]
    if origin is tuple:
        return _read_tuple(get_args(hint), value, where)
    if origin in (dict, Mapping) or hint in (dict, Mapping):
        if not isinstance(value, Mapping):
            raise ConfigError(f"{where} must be an object, but is {value!r:.60}.")
        return dict(value)
    if hint is Any or hint is object:
        return value
    if dataclasses.is_dataclass(hint):
        return from_json(hint, value, where)  # type: ignore[arg-type]
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        value = _as_float(value)
    if hint is float and isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{where} must be a finite number, but is {value!r:.60}.")
    if not isinstance(value, hint) or (hint is not bool and isinstance(value, bool)):
        raise ConfigError(f"{where} must be of kind {hint.__name__}, but is {value!r:.60}.")
    return value


def _as_float(value: int) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _read_tuple(kinds: Sequence[Any], value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise ConfigError(f"{where} must be a list, but is {value!r:.60}.")
    if len(kinds) == 2 and kinds[1] is Ellipsis:
        return tuple(_read(kinds[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if len(kinds) != len(value):
        raise ConfigError(f"{where} must have {len(kinds)} entries, but has {len(value)}.")
    return tuple(
        _read(kind, item, f"{where}[{i}]")
        for i, (kind, item) in enumerate(zip(kinds, value, strict=True))
    )


def with_changes(data: Mapping[str, Any], changes: Sequence[str]) -> dict[str, Any]:
    """Apply command line settings such as "encoder.levels=8" to a config in JSON form.

    Args:
        data: A config as `to_json` gives it. It is not modified.
        changes: "key.key=value" each; the value is read as JSON, else as a string.

    Raises:
        ConfigError: No "=", a key that the config does not have, or a value beyond what `parse_json` reads.

    Example:
        >>> with_changes({"encoder": {"levels": 16}}, ["encoder.levels=8"])
        {'encoder': {'levels': 8}}
    """
    result: dict[str, Any] = json.loads(json.dumps(to_json(data)))
    for change in changes:
        path, equals, text = change.partition("=")
        if not equals or not path:
            raise ConfigError(f"--set needs KEY=VALUE, as in encoder.levels=8, but got {change!r}.")
        try:
            value = parse_json(text)
        except json.JSONDecodeError:
            value = text
        except DataError as error:
            raise ConfigError(f"--set {path}: the value {error}; give a smaller one.") from None
        place: Any = result
        keys = path.split(".")
        for depth, key in enumerate(keys):
            if not isinstance(place, dict) or key not in place:
                known = place if isinstance(place, dict) else {}
                above = ".".join(keys[:depth]) or "the config"
                raise ConfigError(f"--set {path}: {above} has no key {key!r}.{nearest(key, known)}")
            if depth == len(keys) - 1:
                place[key] = value
            else:
                place = place[key]
    return result
