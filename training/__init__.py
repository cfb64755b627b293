"""The one training loop, its tasks, metrics and run folders."""

if not __name__.startswith("polyfield."):
    raise ImportError("import polyfield.training, not training")
