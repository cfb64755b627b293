"""The checkerboard on the sphere (Russwurm et al. 2024): how well encoders and networks tell 16 classes of places.

200 points of a Fibonacci lattice carry the classes 0..15 in turn; a place has the class of the nearest of them. 10,000
places drawn evenly train, 10,000 others say when to stop (no better for 30 epochs, at most 500), and 10,000 of a
Fibonacci lattice test. Batches of 2,000, Adam with weight decay.

usage: python benchmarks/sphere.py [--seeds 5] [--threads 2]
"""

import argparse
import math
import time

import torch
from torch import Generator, Tensor, nn

from polyfield.fields.registry import build_encoder, build_head

CLASSES, SUPPORT, PLACES, BATCH, EPOCHS, PATIENCE = 16, 200, 10_000, 2_000, 500, 30

# Encoder, head, learning rate, weight decay: the paper's own settings for this task.
CASES = {
    "Siren(SH)": (
        {"kind": "location", "degree": 15},
        {"kind": "siren", "width": 128, "hidden": 1},
        2.90e-4,
        4.59e-3,
    ),
    "linear(SH)": ({"kind": "location", "degree": 25}, None, 6.86e-2, 0.0),
}


def fibonacci(count: int) -> Tensor:
    """Places spread evenly, unit vectors [count, 3]."""
    i = torch.arange(count, dtype=torch.float64) + 0.5
    z = 1 - 2 * i / count
    angle = math.pi * (1 + math.sqrt(5)) * i
    ring = (1 - z * z).sqrt()
    return torch.stack([ring * angle.cos(), ring * angle.sin(), z], 1).float()


def drawn(count: int, generator: Generator) -> Tensor:
    """Places drawn evenly."""
    return nn.functional.normalize(torch.randn(count, 3, generator=generator), dim=1)


def classes(places: Tensor) -> Tensor:
    """The checkerboard."""
    return (places @ fibonacci(SUPPORT).t()).argmax(1) % CLASSES


def run(name: str, seed: int) -> float:
    """Train one case and give its accuracy on the test places, in percent."""
    encoder_config, head_config, rate, decay = CASES[name]
    generator = Generator().manual_seed(seed)
    encoder = build_encoder(encoder_config, 3, generator)
    if head_config is None:
        head: nn.Module = nn.Linear(encoder.out_dim, CLASSES)
    else:
        head = build_head(head_config, encoder.out_dim, CLASSES, generator)

    def features(places: Tensor) -> tuple[Tensor, Tensor]:
        return encoder((places + 1) / 2), classes(places)

    train, wanted = features(drawn(PLACES, generator))
    stop, stop_wanted = features(drawn(PLACES, generator))
    optimiser = torch.optim.Adam(head.parameters(), lr=rate, weight_decay=decay)
    best, best_weights, since = math.inf, {}, 0
    for _ in range(EPOCHS):
        for rows in torch.randperm(PLACES, generator=generator).split(BATCH):
            optimiser.zero_grad()
            nn.functional.cross_entropy(head(train[rows]), wanted[rows]).backward()
            optimiser.step()
        with torch.no_grad():
            loss = nn.functional.cross_entropy(head(stop), stop_wanted).item()
        since += 1
        if loss < best:
            best, since = loss, 0
            best_weights = {k: v.clone() for k, v in head.state_dict().items()}
        if since >= PATIENCE:
            break
    head.load_state_dict(best_weights)
    test, test_wanted = features(fibonacci(PLACES))
    with torch.no_grad():
        return 100 * (head(test).argmax(1) == test_wanted).float().mean().item()


def main() -> None:
    """Print a row for each case."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(f"checkerboard, {args.seeds} seeds, {args.threads} threads")
    for name in CASES:
        begun = time.perf_counter()
        results = torch.tensor([run(name, seed) for seed in range(args.seeds)])
        seconds = (time.perf_counter() - begun) / args.seeds
        spread = results.std().item() if len(results) > 1 else 0.0
        print(f"{name:<12} {results.mean():6.2f} +- {spread:.2f} %   {seconds:5.1f} s a run")


if __name__ == "__main__":
    main()
