"""Meshes of radiance fields beside the true surface: the chosen level, and levels that stay the same for every scene.

Trains the built-in scene, whose surface is known, or takes runs of it, meshes each at several densities, and compares:
mean distance of the mesh to the truth and back in percent of the diagonal, and how far the mesh, in the colours of its
vertices, shows the held-out views as the truth does. Only what some camera can see counts: a field knows nothing of the
inside of solids, nor of what they stand on. Of another scene's run there is no truth, and pictures alone are compared.

usage: python benchmarks/surfaces.py [RUN ...] [--scene SCENE] [--levels 5 10 25 50] [--resolution 256] [--budget 60]
"""

import argparse
import tempfile
from pathlib import Path

import torch
from torch import Tensor

import polyfield
from polyfield.datasets.builtin_mesh import builtin_mesh
from polyfield.datasets.cameras import Cameras
from polyfield.datasets.load import load_scene
from polyfield.datasets.mesh import Mesh, clean_mesh
from polyfield.datasets.mesh_distance import MeshDistance
from polyfield.datasets.mesh_paint import Paint
from polyfield.datasets.mesh_rays import MeshRays
from polyfield.datasets.scene import Scene
from polyfield.fields import model_file
from polyfield.meshing.extract import Extracted, extract
from polyfield.meshing.surfaces import surface_of
from polyfield.renderers.mesh import MeshRenderer
from polyfield.training.evaluation import draw_view
from polyfield.training.viewpoints import viewpoints

RAYS = 1 << 14


def seen(mesh: Mesh, cameras: Cameras, views: list[int]) -> Tensor:
    """Places on a mesh that cameras see first, [N, 3] float64."""
    caster, places = MeshRays(mesh), list[Tensor]()
    for view in views:
        width, height = (int(side) for side in cameras.size[view])
        x, y = torch.meshgrid(torch.arange(0, width, 2), torch.arange(0, height, 2), indexing="xy")
        pixels = torch.stack([x, y], -1).view(-1, 2) + 0.5
        origins, directions = cameras.rays(torch.full((len(pixels),), view), pixels)
        hits = caster.first_hits(origins, directions)
        met = hits.face >= 0
        places.append((origins + hits.distance[:, None] * directions)[met])
    return torch.cat(places).double()


def psnr(found: Extracted, scene: Scene, background: tuple[float, float, float]) -> float:
    """Of the held-out views, as the mesh shows them."""
    renderer, each = (
        MeshRenderer(found.mesh, Paint.of_vertices(found.mesh, found.colors)),
        list[float](),
    )
    for view in scene.split["test"]:
        shown = draw_view(renderer, scene.cameras, view, background).color
        rgba = scene.images.image(view).view(-1, 4)
        truth = rgba[:, :3] + (1 - rgba[:, 3:]) * torch.tensor(background)
        each.append(float(-10 * torch.log10((shown - truth).square().mean())))
    return sum(each) / len(each)


def main() -> None:
    """Print a row for each run and level."""
    parser = argparse.ArgumentParser()
    parser.add_argument("runs", nargs="*", type=Path)
    parser.add_argument("--scene", default="builtin")
    parser.add_argument("--downscale", type=int, default=1)
    parser.add_argument("--levels", nargs="*", type=float, default=[5.0, 10.0, 25.0, 50.0])
    parser.add_argument("--resolution", type=int, default=256)
    parser.add_argument("--budget", type=float, default=60.0)
    args = parser.parse_args()
    scene = load_scene(None if args.scene == "builtin" else args.scene, downscale=args.downscale)
    cameras, training = scene.cameras, list(scene.split["train"])
    truth = clean_mesh(*builtin_mesh(256)) if args.scene == "builtin" else None
    if not args.runs:
        folder = Path(tempfile.mkdtemp())
        polyfield.train(scene, out=folder / "run", budget=args.budget)
        args.runs = [folder / "run"]
    print(f"{'run':<20} {'level':>8} {'faces':>9} {'to truth':>9} {'back':>7} {'PSNR':>6}")
    for run in args.runs:
        model = model_file.load(run)
        surface = surface_of(model)
        views, generator = viewpoints(model), torch.Generator().manual_seed(31)
        chosen = surface.level(lambda v=views, g=generator: v.through(*v.choose(RAYS, g), g))
        for level in (chosen, *args.levels):
            found = extract(surface, args.resolution, level)
            there = back = float("nan")
            if truth is not None:
                low, high = truth.box
                diagonal = float((high - low).norm())
                mesh_seen = seen(found.mesh, cameras, training)
                there = float(MeshDistance(truth).unsigned(mesh_seen).distance.mean()) / diagonal
                truth_seen = seen(truth, cameras, training)
                back = (
                    float(MeshDistance(found.mesh).unsigned(truth_seen).distance.mean()) / diagonal
                )
            quality = psnr(found, scene, model.background)
            mark = "*" if level == chosen else " "
            print(
                f"{run.name:<20} {level:7.1f}{mark} {len(found.mesh.faces):>9,} {100 * there:8.3f}% "
                f"{100 * back:6.3f}% {quality:6.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
