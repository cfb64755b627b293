"""What tells one file from another."""

import hashlib
from pathlib import Path

__all__ = ["file_fingerprint"]


def file_fingerprint(path: Path | str) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
