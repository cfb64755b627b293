"""The command line: arguments and printing, nothing else."""

if not __name__.startswith("polyfield."):
    raise ImportError("import polyfield.cli, not cli")
