"""Adam over a hash grid's 12.2 million entries, all of them touched or a part, against torch's fused one."""

from collections.abc import Iterator

import torch
from harness import Bench, Row

from polyfield.fields.ops.sparse_gradient import SparseGradient
from polyfield.training.adam import Adam, AdamGroup

ENTRIES = 12_196_240  # 16 levels x 2 features, T = 2^19, base 16, finest 2048


def rows(bench: Bench) -> Iterator[Row]:
    """Entries a second, of all that there are: those untouched count too.

    Floor: 38 bytes for each touched entry (value, gradient, both moments and the count, read and written) and one for
    each line, at the rate of a copy.
    """
    table = torch.zeros(ENTRIES // 2, 2)
    sparse = SparseGradient(table)
    adam = Adam([AdamGroup("table", [table], rate=1e-4, gradients=[sparse])])
    peer_table = torch.zeros(ENTRIES, requires_grad=True)
    peer = torch.optim.Adam([peer_table], lr=1e-4, betas=(0.9, 0.99), eps=1e-15, fused=True)
    theirs = 0.0
    generator = torch.Generator().manual_seed(0)
    for share in (1.0, 0.3, 0.05):
        touched = torch.rand(len(sparse.touched), generator=generator) < share
        lines = touched.repeat_interleave(16)[:ENTRIES].view(-1, 2)
        pattern = torch.where(lines, 1e-3, 0.0)
        peer_table.grad = pattern.flatten()

        def mark(pattern: torch.Tensor = pattern, touched: torch.Tensor = touched) -> None:
            sparse.values.copy_(pattern)
            sparse.touched.copy_(touched)

        def step() -> None:
            mark()
            adam.step()

        mine = max(bench.time(step) - bench.time(mark), 1e-6)
        theirs = theirs or bench.time(peer.step)
        yield Row(
            "adam",
            f"12.2 M entries, {share:.0%} touched, {1e3 * mine:.2f} ms",
            ENTRIES / mine,
            ENTRIES / theirs,
            bench.floors["stream"] / (38 * share + 1 / 16),
        )
