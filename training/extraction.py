"""Meshing a run: its surface, with colours, to a file that other programs open."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor

from polyfield.datasets.mesh_export import check_export, write_mesh
from polyfield.datasets.wishes import whole_number
from polyfield.errors import InputError, nearest
from polyfield.fields import model_file
from polyfield.fields.model import Model
from polyfield.files import write_json
from polyfield.meshing.extract import Extracted, MeshReport, extract, vertex_normals
from polyfield.meshing.surfaces import surface_of
from polyfield.meshing.unsigned_surface import extract_unsigned
from polyfield.training.progress import Progress
from polyfield.training.running import use_threads
from polyfield.training.viewpoints import viewpoints

__all__ = ["METHODS", "extract_mesh"]

METHODS = ("marching-cubes", "dualmesh-udf")
"""How a surface can be found."""

_RAYS, _SEED = 1 << 14, 31  # that the level is chosen by


def extract_mesh(
    run: Path | str,
    *,
    out: Path | str,
    method: str | None = None,
    resolution: int = 256,
    level: float | None = None,
    crop: Sequence[float] | None = None,
    least_piece: float = 0.0,
    threads: int | None = None,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> dict[str, Any]:
    """Extract the surface of a run, and write it with the colours of its vertices where it has any.

    Beside the mesh lies a report, FILE.json.

    Args:
        run: Run folder or field file: a radiance field, or that of a shape.
        out: A .ply, .obj or .glb file, in the coordinates of the data that the run was made from.
        method: One of `METHODS`; None: "dualmesh-udf" for unsigned distances, else "marching-cubes". DualMesh-UDF takes
            fields of distances, whose sign it does not look at.
        resolution: Cells along the longest side of the box that is looked at, 2 to 4096; for DualMesh-UDF along each
            side of the field's cube, a power of two from 8 to 2048.
        level: Of the surface: a density per unit of length, a distance in the box of the fit, or an occupancy. None: 0
            for distances, 0.5 for occupancies, and the density at which the surface lies where the run's pictures show
            it.
        crop: x, y, z of the low and of the high corner of the box to look at, in coordinates of the data. None: around
            what there is.
        least_piece: Pieces go that have less than this share of the faces of the largest one, in [0, 1].
        threads: Number of threads.
        on_progress: Told about each slab.

    Returns:
        What the report holds: "vertices", "faces", "boundary_edges", "nonmanifold_edges", "components", "watertight",
        "euler", "area", "volume", "low", "high", "method", "level" (None for DualMesh-UDF), "resolution", "queries",
        "seconds", "mesh".

    Raises:
        InputError: There is no run or no surface, or a wish cannot be met.
        DataError: The run's file is damaged, or gives values that are not finite.
    """
    use_threads(threads)
    path = check_export(out)
    whole_number(resolution, "--resolution", 2, 4096)
    box = None if crop is None else _corners(crop)
    model = model_file.load(run)
    method = method or ("dualmesh-udf" if model.kind == "udf" else "marching-cubes")
    if method not in METHODS:
        raise InputError(f"There is no --method {method!r}.{nearest(method, METHODS)}")
    begin = time.perf_counter()
    if method == "dualmesh-udf":
        depth = _depth(resolution, level, crop)
        on_progress(Progress(message="asking the distance"))
        unsigned = extract_unsigned(model, depth, least_piece=least_piece)
        found = Extracted(unsigned.mesh, None, unsigned.queries, None)
    else:
        found = _cut(model, resolution, level, box, least_piece, on_progress)
    mesh = found.mesh
    write_mesh(path, mesh, found.colors, vertex_normals(mesh.vertices, mesh.faces))
    report = {
        **MeshReport.of(mesh).json(),
        "method": method,
        "level": found.level,
        "resolution": resolution,
        "queries": found.queries,
        "seconds": time.perf_counter() - begin,
        "mesh": str(path),
    }
    write_json(path.with_name(path.name + ".json"), report)
    return report


def _depth(resolution: int, level: float | None, crop: Sequence[float] | None) -> int:
    """Give that of the octree.

    Raises:
        InputError: Something else was wished for than DualMesh-UDF can do.
    """
    for name, wish in (("--level", level), ("--crop", crop)):
        if wish is not None:
            raise InputError(
                f"{name} belongs to marching cubes: DualMesh-UDF finds where a distance is 0, in all of its cube."
            )
    if resolution & (resolution - 1) or not 8 <= resolution <= 2048:
        raise InputError(
            f"The octree of DualMesh-UDF has 8, 16, 32, ... or 2048 cells along a side, but --resolution is "
            f"{resolution}."
        )
    return resolution.bit_length() - 1


def _cut(
    model: Model,
    resolution: int,
    level: float | None,
    box: tuple[Tensor, Tensor] | None,
    least_piece: float,
    on_progress: Callable[[Progress], None],
) -> Extracted:
    """Take marching cubes."""
    if model.kind == "udf":
        raise InputError(
            "Marching cubes want values of which some lie on either side of a surface, but an unsigned distance is 0 "
            "there and above it everywhere else; take --method dualmesh-udf."
        )
    surface = surface_of(model)

    def rays() -> tuple[Tensor, Tensor]:
        on_progress(Progress(message="choosing the level"))
        views, generator = viewpoints(model), Generator().manual_seed(_SEED)
        return views.through(*views.choose(_RAYS, generator), generator)

    if level is None:
        level = surface.level(rays)

    def tell(done: int, total: int) -> None:
        on_progress(Progress(step=done, steps=total, message=f"layer {done} of {total}"))

    return extract(surface, resolution, level, crop=box, least_piece=least_piece, on_layers=tell)


def _corners(crop: Sequence[float]) -> tuple[Tensor, Tensor]:
    """Read a box.

    Raises:
        InputError: It is not six finite numbers, low below high.
    """
    numbers = torch.tensor([float(value) for value in crop], dtype=torch.float64)
    if len(numbers) != 6 or not bool(
        numbers.isfinite().all() and (numbers[3:] > numbers[:3]).all()
    ):
        raise InputError(
            "--crop wants six finite numbers, x,y,z of the low and of the high corner, but got "
            f"{', '.join(f'{value:g}' for value in numbers.tolist())}."
        )
    return numbers[:3], numbers[3:]
