"""Surfaces: from arrays and fields to triangle meshes, and what makes these fit to use."""

if not __name__.startswith("polyfield."):
    raise ImportError("import polyfield.meshing, not meshing")
