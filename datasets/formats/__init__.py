"""Formats of posed images, one a file: `detect`, `read` and `write`."""
