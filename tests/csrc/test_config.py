"""Configs: what is written is read back, and what is wrong is named."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyfield.config import from_json, to_json, with_changes
from polyfield.errors import ConfigError, nearest


@dataclass(frozen=True)
class Grid:
    levels: int = 16
    rate: float = 0.5
    name: str = "hash"
    skips: tuple[int, ...] = ()
    box: tuple[float, float] = (0.0, 1.0)
    on: bool = False
    limit: int | None = None


@dataclass(frozen=True)
class Outer:
    grid: Grid
    slot: dict[str, object]


@given(
    st.builds(
        Grid,
        levels=st.integers(),
        rate=st.floats(allow_nan=False, allow_infinity=False),
        name=st.text(),
        skips=st.lists(st.integers()).map(tuple),
        on=st.booleans(),
        limit=st.none() | st.integers(),
    )
)
def test_round_trip(grid: Grid) -> None:
    outer = Outer(grid, {"kind": "x", "a": [1, 2]})
    assert from_json(Outer, to_json(outer)) == outer


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"level": 3}, "config has no key 'level'. Did you mean 'levels'?"),
        ({"levels": 1.5}, "config.levels must be of kind int, but is 1.5."),
        ({"levels": True}, "config.levels must be of kind int, but is True."),
        ({"on": 1}, "config.on must be of kind bool, but is 1."),
        ({"rate": float("nan")}, "config.rate must be a finite number, but is nan."),
        ({"skips": 3}, "config.skips must be a list, but is 3."),
        ({"skips": ["a"]}, "config.skips[0] must be of kind int, but is 'a'."),
        ({"box": [1.0]}, "config.box must have 2 entries, but has 1."),
        ({"limit": "x"}, "config.limit must be of kind int, but is 'x'."),
        ({"rate": 10**400}, "config.rate must be a finite number, but is inf."),
        ({"rate": -(10**400)}, "config.rate must be a finite number, but is -inf."),
        ({"on": 10**400}, f"config.on must be of kind bool, but is 1{'0' * 59}."),
        ([], "config must be an object with named values, but is []."),
    ],
)
def test_wrong_values_are_named(data: object, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        from_json(Grid, data)
    assert str(caught.value) == message


def test_a_missing_key_is_named() -> None:
    with pytest.raises(ConfigError, match="config lacks the key 'slot'"):
        from_json(Outer, {"grid": {}})


def test_settings_reach_nested_keys_and_leave_the_original() -> None:
    data = {"grid": {"levels": 16, "name": "a"}}
    assert with_changes(data, ["grid.levels=8", "grid.name=b"]) == {
        "grid": {"levels": 8, "name": "b"}
    }
    assert data["grid"]["levels"] == 16


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("grid.level=8", "--set grid.level: grid has no key 'level'. Did you mean 'levels'?"),
        ("gird.levels=8", "--set gird.levels: the config has no key 'gird'. Did you mean 'grid'?"),
        ("grid.levels", "--set needs KEY=VALUE, as in encoder.levels=8, but got 'grid.levels'."),
        (
            "grid.levels=" + "9" * 5000,
            "--set grid.levels: the value has a number of thousands of digits; give a smaller one.",
        ),
        (
            "grid.levels=" + "[" * 3000,
            "--set grid.levels: the value is nested too deep (more than 64 lists or objects in each other); give a "
            "smaller one.",
        ),
        ("grid.levels.x=1", "--set grid.levels.x: grid.levels has no key 'x'. Known: ."),
    ],
)
def test_wrong_settings_are_named(change: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        with_changes({"grid": {"levels": 16}}, [change])
    assert str(caught.value) == message


def test_nothing_near_lists_all() -> None:
    assert nearest("zzz", ["b", "a"]) == " Known: a, b."
