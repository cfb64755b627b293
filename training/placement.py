"""Placing a field in a scene: its domain and how its rays are sampled, chosen from the data."""

import math
from typing import Any

from polyfield.datasets.scene import Scene

__all__ = ["place"]

# Beyond the sixth doubling a cell of the outermost cascade is as large as half the finest box: nothing to skip there.
_MAX_LEVELS = 6

# Samples along the diagonal of a bounded scene. Half of what GPUs take: a ray costs half, and rays are what a short run
# lacks (20 s of lego: 26.0 dB, against 24.0 dB with 1024).
_BOUNDED_STEPS = 512

# Samples across the finest box, and growth of the step with distance, where there are surroundings: a quarter of what
# GPUs take. On a processor more rays are worth more than finer steps (25 s of fox at 1/4 size: 23.5 dB, against 21.6 dB
# with 1024 and 1/256).
_STEPS, _CONE = 384, 0.02


def place(scene: Scene) -> tuple[dict[str, Any], dict[str, Any], str]:
    """Choose a domain and a volume renderer's settings for a scene.

    A bounded scene gets its box. One with surroundings gets a contraction of space, so that the part that the cameras
    look at has half the resolution of the encoder whatever lies behind it, and cascades of the occupancy grid up to the
    farthest thing, with steps that grow with the distance.

    Returns:
        domain: JSON for `build_domain`.
        render: JSON for `VolumeConfig`.
        why: One sentence for the user.
    """
    low, high = (tuple(float(v) for v in corner) for corner in scene.box)
    render: dict[str, Any] = {"low": low, "high": high, "near": scene.near, "far": scene.far}
    if not scene.unbounded:
        why = "The scene is bounded: the field lives in its box."
        render["steps"] = _BOUNDED_STEPS
        return {"kind": "box", "low": low, "high": high}, render, why
    center = tuple((a + b) / 2 for a, b in zip(low, high, strict=True))
    side = max(b - a for a, b in zip(low, high, strict=True))
    cube_low = tuple(c - side / 2 for c in center)
    cube_high = tuple(c + side / 2 for c in center)
    positions = scene.cameras.world_from_camera[:, :, 3].tolist()
    reach = max(math.dist(p, center) for p in positions) + scene.far
    levels = min(max(math.ceil(math.log2(2 * reach / side)) + 1, 1), _MAX_LEVELS)
    far = min(scene.far, side / 2 * 2.0 ** (levels - 1) * math.sqrt(3) * 2)
    render |= {"low": cube_low, "high": cube_high, "levels": levels, "far": far}
    render |= {"steps": _STEPS, "cone": _CONE}
    domain = {"kind": "contraction", "center": center, "radius": side / 2}
    why = (
        f"The scene has surroundings: space is contracted around a ball of radius {side / 2:.3g}, "
        f"with {levels} cascades of occupancy."
    )
    return domain, render, why
