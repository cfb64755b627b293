"""Rays, occupancy grids, volume rendering, camera paths."""

if not __name__.startswith("polyfield."):
    raise ImportError("import polyfield.renderers, not renderers")
