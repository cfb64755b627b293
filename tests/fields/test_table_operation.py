"""Operations of points and a table are known to torch in full: schema, shapes without values, derivatives."""

import pytest
import torch
from torch import Generator, Tensor

from polyfield import native
from polyfield.fields.ops.factor_grid import Factor, FactorLayout
from polyfield.fields.ops.rbf import RadialBases, RbfShape
from polyfield.fields.ops.rbf_neighbours import nearest_reference
from polyfield.fields.ops.sparse_gradient import SparseGradient
from polyfield.fields.ops.sparse_grid import lattice_points

pytestmark = pytest.mark.skipif(not native.available(), reason="checks the native operators")


def drawn(*size: int, seed: int = 0) -> Tensor:
    return torch.rand(size, generator=Generator().manual_seed(seed))


def factor_grid_arguments() -> tuple[Tensor, Tensor, list[Tensor], list[str]]:
    layout = FactorLayout(3, 5, ((Factor((0, 1), (4, 3)), Factor((2,), (5,))),))
    return drawn(9, 3), drawn(layout.rows, 5, seed=1), [], [layout.key]


def sparse_grid_arguments() -> tuple[Tensor, Tensor, list[Tensor], list[str]]:
    index = torch.arange(-7, 20, dtype=torch.int32).view(3, 3, 3)
    return lattice_points(torch.arange(9), 3) * 0.9 + 0.05, drawn(20, 5, seed=1), [index], []


def rbf_arguments() -> tuple[Tensor, Tensor, list[Tensor], list[str]]:
    shape = RbfShape(2, 5, 3, "tent")
    bases = RadialBases(drawn(20, 2, seed=2), torch.full((20, 1), 3.0), torch.ones(2))
    x = drawn(9, 2)
    ids = nearest_reference(x, bases.centres, bases.extent, 3)
    return x, drawn(20, 5, seed=1), [ids, *bases], [shape.key]


SUFFIXES = ("", "_points_gradient", "_table_gradient", "_scatter_")
# Without tracing the whole of forward and backward: that of the features takes these along.
QUICK = ("test_schema", "test_autograd_registration", "test_faketensor")
ARGUMENTS = {
    "factor_grid": factor_grid_arguments,
    "sparse_grid": sparse_grid_arguments,
    "rbf": rbf_arguments,
}


@pytest.mark.filterwarnings("ignore::UserWarning")  # opcheck itself sets deprecated switches
@pytest.mark.parametrize("name", ARGUMENTS)
def test_operators_are_registered_in_full(name: str) -> None:
    x, table, frozen, key = ARGUMENTS[name]()
    leaves = [x.requires_grad_(), table.requires_grad_()]
    upstream = drawn(9, 5, seed=3)
    # Where the upstream gradient stands is part of the schema.
    derived = (
        [*leaves, *frozen, upstream] if name == "sparse_grid" else [*leaves, upstream, *frozen]
    )
    sparse = SparseGradient(table.detach())
    filled = (*(t.detach() for t in derived), sparse.values, sparse.touched)
    operator = {suffix: getattr(torch.ops.polyfield, name + suffix).default for suffix in SUFFIXES}
    torch.library.opcheck(operator[""], (*leaves, *frozen, None, None, *key))
    for suffix, arguments in (
        ("_points_gradient", (*derived, None, None)),
        ("_table_gradient", derived),
        ("_scatter_", filled),
    ):
        found = torch.library.opcheck(operator[suffix], (*arguments, *key), test_utils=QUICK)
        assert set(found.values()) == {"SUCCESS"}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_results_are_of_the_kind_of_what_came_in(name: str) -> None:
    """Whatever torch makes where nothing is said: a kernel would write beyond an array of two-byte numbers."""
    x, table, frozen, key = ARGUMENTS[name]()
    run = getattr(torch.ops.polyfield, name)
    expected = run(x, table, *frozen, None, None, *key)
    before = torch.get_default_dtype()
    try:
        for dtype in (torch.float64, torch.bfloat16):
            torch.set_default_dtype(dtype)
            assert torch.equal(run(x, table, *frozen, None, None, *key), expected)
            assert SparseGradient(table).values.dtype == torch.float32
    finally:
        torch.set_default_dtype(before)
