"""Connected pieces: the same as a library finds, numbered as said, and small ones go alone."""

import pytest
import torch
from torch import Generator, Tensor

from polyfield.errors import InputError
from polyfield.meshing.pieces import large_pieces, pieces


def faces_at_random(count: int, vertices: int, seed: int) -> Tensor:
    return torch.randint(vertices, (count, 3), generator=Generator().manual_seed(seed))


def strip(count: int, first: int = 0) -> Tensor:
    """A strip of triangles: one piece."""
    return first + torch.arange(count)[:, None] + torch.arange(3)


def shuffled(faces: Tensor, vertices: int, seed: int = 0) -> Tensor:
    """With other numbers of vertices, and in another order."""
    generator = Generator().manual_seed(seed)
    names = torch.randperm(vertices, generator=generator)
    return names[faces][torch.randperm(len(faces), generator=generator)]


def assert_numbered(of: Tensor, count: int, faces: Tensor) -> None:
    """From 0, in the order of the pieces' first vertices."""
    assert torch.equal(of.unique(), torch.arange(count))
    firsts = [int(faces[of == piece].min()) for piece in range(count)]
    assert firsts == sorted(firsts)


@pytest.mark.parametrize("share", [0.05, 0.2, 0.35, 0.5, 1.0])
def test_pieces_are_those_of_scipy(share: float) -> None:
    graphs = pytest.importorskip("scipy.sparse.csgraph", reason="scipy is the oracle here")
    from scipy.sparse import coo_array

    for seed in range(20):
        vertices = 200
        faces = faces_at_random(max(int(share * vertices), 1), vertices, seed)
        of, count = pieces(faces, vertices)
        assert_numbered(of, count, faces)
        ends = torch.cat([faces[:, [0, 1]], faces[:, [1, 2]]]).T.numpy()
        links = coo_array(([1] * ends.shape[1], tuple(ends)), shape=(vertices, vertices))
        _, labels = graphs.connected_components(links, directed=False)
        theirs = torch.tensor(labels)[faces[:, 0]]
        pairs = torch.stack([of, theirs.long()], 1).unique(dim=0)
        # One name of theirs for each of ours, and the other way around.
        assert len(pairs) == count == len(theirs.unique())


@pytest.mark.parametrize("lengths", [[1], [5000], [1, 2, 3, 500], [700] * 7])
def test_strips_are_pieces(lengths: list[int]) -> None:
    """Long ones, whose ends know of each other by many hands only."""
    parts, first = [], 0
    for length in lengths:
        parts.append(strip(length, first))
        first += length + 2
    for seed in range(3):
        faces = shuffled(torch.cat(parts), first, seed)
        of, count = pieces(faces, first)
        assert_numbered(of, count, faces)
        assert sorted(torch.bincount(of).tolist()) == sorted(lengths)


def test_one_vertex_in_common_is_enough() -> None:
    fan = torch.tensor([[0, 1, 2], [0, 3, 4], [5, 0, 6], [7, 8, 9]])
    assert pieces(fan, 10)[0].tolist() == [0, 0, 0, 1]


def test_vertices_without_faces_are_no_pieces() -> None:
    of, count = pieces(torch.tensor([[7, 8, 9], [3, 4, 5]]), 20)
    assert (of.tolist(), count) == ([1, 0], 2)
    none, count = pieces(torch.zeros(0, 3, dtype=torch.int64), 5)
    assert (none.shape, count) == ((0,), 0)


@pytest.mark.parametrize("fraction", [0.0, 0.05, 0.1, 0.1001, 0.5, 0.999, 1.0])
def test_what_stays_is_whole_and_as_it_was(fraction: float) -> None:
    sizes, first, parts = [10, 100, 1, 50, 100], 0, []
    for size in sizes:
        parts.append(strip(size, first))
        first += size + 2
    faces = shuffled(torch.cat(parts), first)
    places = torch.arange(3.0 * first, dtype=torch.float64).view(first, 3)
    vertices, kept = large_pieces(places, faces, fraction)
    before, _ = pieces(faces, first)
    # All faces of a piece or none of them; and of those pieces that are large enough, where they were.
    stay = torch.bincount(before) >= fraction * 100
    assert torch.equal(vertices[kept], places[faces[stay[before]]])
    assert len(kept.unique()) == len(vertices)
    left = torch.bincount(pieces(kept, len(vertices))[0])
    assert sorted(left.tolist()) == sorted(size for size in sizes if size >= fraction * 100)


def test_of_nothing_nothing_stays() -> None:
    vertices, faces = large_pieces(
        torch.zeros(0, 3, dtype=torch.float64), torch.zeros(0, 3, dtype=torch.int64), 0.5
    )
    assert len(vertices) == len(faces) == 0


@pytest.mark.parametrize("fraction", [-0.1, 1.1, float("nan"), float("inf")])
def test_a_share_lies_between_none_and_all(fraction: float) -> None:
    with pytest.raises(InputError, match=r"share of the largest piece lies in \[0, 1\], but is"):
        large_pieces(torch.zeros(5, 3, dtype=torch.float64), strip(3), fraction)
