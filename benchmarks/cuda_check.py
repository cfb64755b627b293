"""Run every CUDA kernel against the torch references, and time it.

    python benchmarks/cuda_check.py PATH/_cuda.*.so [--points 1048576]

Needs torch, numpy and the built module, no installation of polyfield: its Python folders are found beside this
script. With `_cuda_shim` the same kernels run on this machine's processor, on few points: that is a check of their
arithmetic and barriers, and says nothing about a GPU. Prints a line for each kernel: the largest error relative to
the largest value, what is allowed, and points a second. Exits with 1 when an error is too large.
"""

import argparse
import importlib.machinery
import importlib.util
import sys
import tempfile
import time
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Check:
    """One kernel's result beside the reference's.

    Attributes:
        name: Kernel and case.
        error: Largest difference relative to the largest value; for marching, the share of rays that differ.
        allowed: What it may be.
        points: How many points, samples or entries a call takes.
        launch: Queues the kernel once more.
    """

    name: str
    error: float
    allowed: float
    points: int
    launch: Callable[[], object]


def find_polyfield() -> None:
    """Make `import polyfield` work from a source tree, with a stand-in for jaxtyping where that is missing."""
    if importlib.util.find_spec("jaxtyping") is None:
        stub = types.ModuleType("jaxtyping")
        anything = type("Anything", (), {"__class_getitem__": classmethod(lambda cls, _: cls)})

        def lookup(name: str) -> type:
            if name.startswith("__"):  # asked for by inspect, and rightly missing
                raise AttributeError(name)
            return anything

        stub.__getattr__ = lookup  # type: ignore[method-assign]
        sys.modules["jaxtyping"] = stub
    if importlib.util.find_spec("polyfield") is None:
        tree = Path(tempfile.mkdtemp()) / "polyfield"
        tree.mkdir()
        for source in (ROOT / "csrc" / "polyfield").iterdir():
            (tree / source.name).symlink_to(source)
        for room in ("fields", "renderers", "training", "datasets"):
            (tree / room).symlink_to(ROOT / room)
        sys.path.insert(0, str(tree.parent))


def load_module(path: Path) -> Any:
    """Import a built module by its path; its name is the file's up to the first dot."""
    name = path.name.split(".")[0]
    loader = importlib.machinery.ExtensionFileLoader(name, str(path))
    spec = importlib.util.spec_from_loader(name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


class Checks:
    """All checks of one module on one device."""

    def __init__(self, module: Any, device: str, points: int) -> None:
        self.module = module
        self.device = torch.device(device)
        self.points = points
        self.generator = torch.Generator().manual_seed(7)

    def __iter__(self) -> Iterator[Check]:
        """Run one after another."""
        yield from self.spherical_harmonics()
        yield from self.frequency()
        yield from self.hash_grid()
        yield from self.mlp()
        yield from self.composite()
        yield from self.march()
        yield from self.adam()

    @property
    def stream(self) -> int:
        """The stream that torch works on; 0 on the host."""
        return int(torch.cuda.current_stream().cuda_stream) if self.device.type == "cuda" else 0

    def random(self, *shape: int) -> Tensor:
        """Normal numbers."""
        return torch.randn(*shape, generator=self.generator).to(self.device)

    def uniform(self, *shape: int) -> Tensor:
        """Numbers in [0, 1)."""
        return torch.rand(*shape, generator=self.generator).to(self.device)

    def empty(self, *shape: int) -> Tensor:
        """Filled with NaN: what a kernel forgets to write is seen."""
        return torch.full(shape, torch.nan, device=self.device)

    def spherical_harmonics(self) -> Iterator[Check]:
        """Every degree, both ways."""
        from polyfield.fields.ops.spherical_harmonics import spherical_harmonics_reference

        n = self.points
        d = torch.nn.functional.normalize(self.random(n, 3), dim=-1)
        for degree in range(1, 9):
            out, to_d = self.empty(n, degree**2), self.empty(n, 3)
            g = self.random(n, degree**2)
            forward = partial(
                self.module.spherical_harmonics_forward,
                d.data_ptr(), out.data_ptr(), n, degree, self.stream,
            )  # fmt: skip
            backward = partial(
                self.module.spherical_harmonics_backward,
                d.data_ptr(), g.data_ptr(), to_d.data_ptr(), n, degree, self.stream,
            )  # fmt: skip
            forward()
            backward()
            exact = d.double().requires_grad_()
            wanted = spherical_harmonics_reference(exact, degree)
            (gradient,) = torch.autograd.grad(wanted, exact, g.double())
            name = f"spherical harmonics, degree {degree}"
            yield Check(name, difference(out, wanted), 3e-6, n, forward)  # encoders: 3e-6 at 8
            yield Check(f"{name}, backward", difference(to_d, gradient), 3e-6, n, backward)

    def frequency(self) -> Iterator[Check]:
        """Values, and the gradient to the coordinates."""
        from polyfield.fields.ops.frequency import frequency_reference

        n = self.points
        for dim, octaves, include in ((3, 10, True), (2, 16, False), (1, 1, True)):
            x = self.uniform(n, dim) * 2 - 1
            out = self.empty(n, dim * (2 * octaves + include))
            g, to_x = self.random(*out.shape), self.empty(n, dim)
            sizes = (n, dim, octaves, include, self.stream)
            forward = partial(self.module.frequency_forward, x.data_ptr(), out.data_ptr(), *sizes)
            backward = partial(
                self.module.frequency_backward,
                x.data_ptr(), g.data_ptr(), to_x.data_ptr(), *sizes,
            )  # fmt: skip
            forward()
            backward()
            exact = x.double().requires_grad_()
            wanted = frequency_reference(exact, octaves, include)
            (gradient,) = torch.autograd.grad(wanted, exact, g.double())
            name = f"frequency, {octaves} octaves of {dim}"
            yield Check(
                name, difference(out, wanted), 2e-7, n, forward
            )  # two units in the last place
            yield Check(f"{name}, backward", difference(to_x, gradient), 1e-6, n, backward)

    def hash_grid(self) -> Iterator[Check]:
        """Features, and the gradients to table and points."""
        from polyfield.fields.ops.hash_grid_geometry import GridGeometry
        from polyfield.fields.ops.hash_grid_reference import hash_grid_reference

        for geometry in (
            GridGeometry(dim=3, levels=8, features=2, log2_table=12, finest=128),
            GridGeometry(dim=3, levels=5, features=4, log2_table=14, finest=256),
            GridGeometry(dim=2, levels=4, features=1, log2_table=10, finest=64, interpolation="smoothstep"),
            GridGeometry(dim=4, levels=3, features=8, log2_table=12, base=4, finest=16),
            GridGeometry(dim=3, levels=3, features=2, base=4, finest=16, kind="tiled"),
        ):  # fmt: skip
            x = self.inside_cells(geometry)
            n = x.shape[0]
            table = self.random(geometry.entries, geometry.features)
            levels = geometry.packed.to(self.device)
            sizes = (geometry.levels, geometry.dim, geometry.features)
            smooth = geometry.interpolation == "smoothstep"
            grid = (levels.data_ptr(), *sizes, smooth, n, x.data_ptr())
            out = self.empty(geometry.out_dim, n)
            g = self.random(n, geometry.out_dim)
            values = torch.zeros_like(table)
            touched = torch.zeros(-(-table.numel() // 16), dtype=torch.uint8, device=self.device)
            to_x = self.empty(n, geometry.dim)
            forward = partial(
                self.module.hash_grid_forward,
                grid, table.data_ptr(), out.data_ptr(), self.stream,
            )  # fmt: skip
            upstream = (g.data_ptr(), g.stride(0), g.stride(1))
            scatter = partial(
                self.module.hash_grid_scatter,
                grid, upstream, values.data_ptr(), touched.data_ptr(), self.stream,
            )  # fmt: skip
            points = partial(
                self.module.hash_grid_points,
                grid, table.data_ptr(), upstream, to_x.data_ptr(), self.stream,
            )  # fmt: skip
            forward()
            scatter()
            points()
            exact_x, exact_table = x.double().requires_grad_(), table.double().requires_grad_()
            wanted = hash_grid_reference(exact_x, exact_table, geometry)
            for_x, for_table = torch.autograd.grad(
                torch.where(x.isnan().any(1, keepdim=True), 0.0, wanted),
                (exact_x, exact_table),
                g.double(),
            )
            name = f"hash grid {geometry.dim}-D, {geometry.levels} levels of {geometry.features}, {geometry.kind}"
            # The place inside a cell is rounded to about finest * 2^-24, and the features change by it.
            place = 4e-7 * max(geometry.finest, 4)
            yield Check(name, difference(out.t(), wanted), place, n, forward)
            error = difference(values, for_table)
            lines = torch.nn.functional.pad(values.flatten(), (0, -table.numel() % 16)).view(-1, 16)
            if not touched.bool()[(lines != 0).any(1)].all():
                error = torch.inf  # a line with a gradient was not marked
            yield Check(f"{name}, to the table", error, place, n, scatter)
            yield Check(f"{name}, to the points", difference(to_x, for_x), place, n, points)

    def inside_cells(self, geometry: Any) -> Tensor:
        """Points whose cell no rounding can change, since derivatives jump there; some outside, one NaN."""
        x = self.uniform(self.points, geometry.dim) * 1.1 - 0.05
        keep = torch.ones(self.points, dtype=torch.bool, device=self.device)
        for level in geometry.levels_table:
            place = x.double().clamp(0, 1) * level.scale + level.shift
            keep &= ((place - place.round()).abs() > 1e-3).all(1)
        x = x[keep].contiguous()
        x[len(x) // 2, 0] = torch.nan
        return x

    def mlp(self) -> Iterator[Check]:
        """Networks of every activation, with skips, biases and conditions."""
        from polyfield.fields.ops.mlp_reference import mlp_reference
        from polyfield.fields.ops.mlp_shape import ACTIVATIONS, MlpShape

        n, rays = self.points, 37
        for shape, extra in (
            (MlpShape(32, 16, 64, 1), 0),
            (MlpShape(32, 3, 64, 2, output_activation="sigmoid"), 16),
            (MlpShape(63, 257, 256, 8, skips=(5,), bias=True), 0),
            (MlpShape(7, 5, 30, 3, activation="sine", scale=3.0, skips=(1, 3), bias=True), 2),
            (MlpShape(19, 1, 100, 2, activation="softplus", scale=10.0), 0),
            (MlpShape(64, 3, 64, 1, activation="gaussian", bias=True), 0),
            (MlpShape(36, 3, 64, 2, bias=True, composition=(1.0, 10.0)), 0),
        ):
            weights = self.random(shape.parameters) * (1.4 / shape.width**0.5)
            x = self.random(shape.inputs - extra, n).t()
            y = self.empty(shape.outputs, n).t()
            condition = self.random(rays, extra)
            rows = (torch.arange(n, device=self.device) % rays).int()
            where = (condition.data_ptr(), rows.data_ptr()) if extra else (0, 0)
            kind = ACTIVATIONS.index(shape.activation)
            skips = sum(1 << layer for layer in shape.skips)
            last = len(ACTIVATIONS) if shape.output_activation == "sigmoid" else 0
            sizes = shape.inputs, shape.outputs, shape.width, shape.hidden, kind, shape.bias, skips
            run = partial(
                self.module.mlp_forward,
                (*sizes, last),
                (shape.scale, *(shape.composition or (0.0, 0.0))),
                ((x.data_ptr(), *x.stride()), x.shape[1], *where, rays, extra),
                weights.data_ptr(),
                (y.data_ptr(), *y.stride()),
                n,
                self.stream,
            )
            run()
            wanted = mlp_reference(
                x.double(), weights.double(), shape,
                condition=condition.double() if extra else None, rows=rows if extra else None,
            )  # fmt: skip
            name = f"network {shape.inputs}-{shape.hidden}x{shape.width}-{shape.outputs} {shape.activation}"
            # Sums of `width` products of 2^-24 each, through every layer.
            yield Check(
                name, difference(y, wanted), 2e-7 * shape.width**0.5 * (shape.hidden + 1), n, run
            )

    def composite(self) -> Iterator[Check]:
        """Rays with and without samples, opaque ones too."""
        from polyfield.renderers.composite import composite_reference

        rays = max(8, self.points // 64)
        counts = torch.randint(0, 130, (rays,), generator=self.generator)
        counts[:3] = torch.tensor([0, 1, 32])
        offsets = torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)]).to(self.device)
        n = int(offsets[-1])
        sigma = self.random(n).exp() * (self.uniform(n) > 0.3)
        sigma[n // 3] = torch.inf
        t0 = self.uniform(n)
        t1 = t0 + self.uniform(n) * 0.1 - 0.01  # some intervals are empty
        rgb, background = self.uniform(n, 3), self.uniform(rays, 3)
        tensors = (sigma, rgb, t0, t1, offsets, background)
        inputs = tuple(t.data_ptr() for t in tensors)
        out = [self.empty(rays, 3), *(self.empty(rays) for _ in range(3)), self.empty(n)]
        g = [self.random(*t.shape) for t in out]
        to = [self.empty(n), self.empty(n, 3), self.empty(rays, 3)]
        forward = partial(
            self.module.composite_forward,
            inputs, tuple(t.data_ptr() for t in out), rays, self.stream,
        )  # fmt: skip
        forward()
        backward = partial(
            self.module.composite_backward,
            inputs, out[4].data_ptr(), out[3].data_ptr(), tuple(t.data_ptr() for t in g),
            *(t.data_ptr() for t in to), rays, self.stream,
        )  # fmt: skip
        backward()
        solid = (
            sigma.double().isinf()
        )  # torch's own gradient there is NaN; ours is compared elsewhere
        exact = [
            torch.where(solid, 1e6, sigma.double()).requires_grad_(),
            rgb.double().requires_grad_(),
            background.double().requires_grad_(),
        ]
        shown = composite_reference(exact[0], exact[1], t0.double(), t1.double(), offsets, exact[2])
        wanted = [shown.color, shown.depth, shown.opacity, shown.left, shown.weights]
        gradients = torch.autograd.grad(wanted, exact, [t.double() for t in g])
        error = max(difference(a, b) for a, b in zip(out, wanted, strict=True))
        yield Check(
            "composite", error, 1e-5, n, forward
        )  # optical depths of a ray summed in float32
        error = max(difference(a, b) for a, b in zip(to, gradients, strict=True))
        yield Check("composite, backward", error, 1e-5, n, backward)

    def march(self) -> Iterator[Check]:
        """Counts and samples, even steps and growing ones."""
        from polyfield.renderers.march import MarchSettings, _Lattice, march_stretch_reference
        from polyfield.renderers.occupancy import OccupancyGrid

        rays = max(64, self.points // 64)
        grid = OccupancyGrid((-1.0, -1.0, -1.0), (1.0, 1.0, 1.0), levels=2, resolution=16)
        with torch.no_grad():
            grid.values.copy_(
                (torch.rand(grid.values.shape, generator=self.generator) < 0.1).float()
            )
        grid.refresh()
        grid = grid.to(self.device)
        origins = self.random(rays, 3) * 1.5
        directions = torch.nn.functional.normalize(self.random(rays, 3), dim=-1)
        near, far = self.uniform(rays) * 0.2, self.uniform(rays) * 9
        jitter = self.uniform(rays)
        for cone in (0.0, 1 / 64):
            settings = MarchSettings(step=0.02, cone=cone, max_samples=100)
            ray = tuple(t.data_ptr() for t in (origins, directions, near, far, jitter))
            center, inverse = grid.center.tolist(), (1.0 / grid.half_size).tolist()
            box = (tuple(center), tuple(inverse), 2, 16, grid.distance.data_ptr())
            step = tuple(_Lattice.of(grid, settings).numbers())
            counts = torch.full((rays,), -1, dtype=torch.int64, device=self.device)
            count = partial(
                self.module.ray_march_count,
                ray, box, step, settings.max_samples, rays, counts.data_ptr(), self.stream,
            )  # fmt: skip
            count()
            offsets = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
            n = int(offsets[-1])
            positions, t0, t1 = self.empty(n, 3), self.empty(n), self.empty(n)
            ids = torch.full((n,), -1, dtype=torch.int32, device=self.device)
            fill = partial(
                self.module.ray_march_fill,
                ray, box, step, rays, offsets.data_ptr(), positions.data_ptr(),
                t0.data_ptr(), t1.data_ptr(), ids.data_ptr(), self.stream,
            )  # fmt: skip
            fill()
            wanted = march_stretch_reference(
                origins, directions, near, far, grid, settings, jitter
            ).samples
            same = counts == wanted.ray_offsets.diff()
            # A sample within rounding of a cell's face may fall to either side.
            differ = 1.0 - float(same.double().mean())
            mine, theirs = same[ids.long()], same[wanted.ray_ids.long()]
            error = max(
                difference(positions[mine], wanted.positions[theirs]),
                difference(t0[mine], wanted.t0[theirs]),
                difference(t1[mine], wanted.t1[theirs]),
                0.0 if torch.equal(ids[mine], wanted.ray_ids[theirs]) else torch.inf,
            )
            name = f"march, cone {cone:g}"
            yield Check(f"{name}, rays that differ", differ, 0.01, n, count)
            yield Check(f"{name}, samples", error, 1e-5, n, fill)

    def adam(self) -> Iterator[Check]:
        """Five sparse steps, and a gradient that is not a number."""
        from polyfield.training.adam import AdamGroup, _corrections, adam_step_reference

        n = self.points * 4 + 5
        group = AdamGroup("all", [], 0.01, weight_decay=1e-3)
        tables = [t.to(self.device) for t in _corrections(*group.betas)]
        value, gradient = self.random(n), torch.zeros(n, device=self.device)
        first, second = torch.zeros_like(value), torch.zeros_like(value)
        count = torch.zeros(n, dtype=torch.uint16, device=self.device)
        touched = torch.zeros(-(-n // 16), dtype=torch.uint8, device=self.device)
        unusable = torch.zeros(1, dtype=torch.int32, device=self.device)
        wanted = [t.double() for t in (value, first, second)]
        wanted_count = count.to(torch.int32)
        entry = (value, gradient, first, second, count, touched)
        settings = (0.01, *group.betas, group.eps, group.weight_decay, 0.5)
        run = partial(
            self.module.adam_step,
            (*(t.data_ptr() for t in entry), n),
            (*settings, *(t.data_ptr() for t in tables), len(tables[0])),
            unusable.data_ptr(),
            self.stream,
        )
        for _ in range(5):
            lines = self.uniform(len(touched)) < 0.3
            g = self.random(n) * lines.repeat_interleave(16)[:n] * (self.uniform(n) < 0.8)
            gradient.copy_(g)
            touched.copy_(lines)
            run()
            adam_step_reference(
                wanted[0], g.double(), wanted[1], wanted[2], wanted_count, group, 0.01, 0.5
            )
        error = max(difference(a, b) for a, b in zip((value, first, second), wanted, strict=True))
        clean = not gradient.any() and not touched.any() and not unusable.any()
        if not clean or not torch.equal(count.to(torch.int32), wanted_count):
            error = torch.inf
        yield Check("Adam", error, 1e-5, n, run)  # divided by the root of a small moment
        gradient[3] = torch.nan
        touched[0] = 1
        before = value.clone()
        run()
        kept = torch.equal(before, value) and int(unusable) == 1
        yield Check("Adam, a NaN is told", 0.0 if kept else torch.inf, 0.0, n, run)


def difference(got: Tensor, wanted: Tensor) -> float:
    """Largest difference relative to the largest value; infinite where only one of them is NaN."""
    if got.shape != wanted.shape or not torch.equal(got.isnan(), wanted.isnan()):
        return torch.inf
    if got.numel() == 0:
        return 0.0
    got, wanted = got.double().nan_to_num(), wanted.detach().double().nan_to_num()
    return float((got - wanted).abs().max() / wanted.abs().max().clamp(min=1e-30))


def seconds(check: Check, device: str) -> float:
    """Median time of a call."""
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    times = []
    for _ in range(11 if device == "cuda" else 1):
        wait()
        start = time.perf_counter()
        check.launch()
        wait()
        times.append(time.perf_counter() - start)
    return sorted(times)[len(times) // 2]


def main() -> int:
    """Check and time."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("module", type=Path, help="the built _cuda or _cuda_shim")
    parser.add_argument("--points", type=int, help="2^20 on a GPU, 1000 in the shim")
    arguments = parser.parse_args()
    find_polyfield()
    module = load_module(arguments.module)
    device = "cuda" if module.device_count() > 0 else "cpu"
    if device == "cpu" and "shim" not in arguments.module.name:
        print(f"{arguments.module} found no GPU; there is nothing to check.")
        return 1
    name = torch.cuda.get_device_name() if device == "cuda" else "the host shim, not a GPU"
    print(f"Kernels of {arguments.module.name} on {name}")
    bad = 0
    for check in Checks(
        module, device, arguments.points or (1 << 20 if device == "cuda" else 1000)
    ):
        fine = check.error <= check.allowed
        bad += not fine
        speed = check.points / seconds(check, device) / 1e6
        print(
            f"{'ok ' if fine else 'BAD'} {check.name:48} error {check.error:8.1e} "
            f"(allowed {check.allowed:7.1e})  {speed:10.2f} M/s",
            flush=True,
        )
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
