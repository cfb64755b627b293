"""Encoders, heads, fields, domains, presets and the field file."""

if not __name__.startswith("polyfield."):
    raise ImportError("import polyfield.fields, not fields")
