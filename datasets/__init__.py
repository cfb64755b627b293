"""Cameras, readers of posed images, images and masks, the built-in scene."""

if not __name__.startswith("polyfield."):
    raise ImportError("import polyfield.datasets, not datasets")
