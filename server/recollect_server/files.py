"""Files that are read again when they change."""

from pathlib import Path

Stamp = tuple[tuple[int, int, int], ...]
"""What changes when a file is written or replaced."""


def stamp(*files: Path) -> Stamp:
    """Return the files' stamp. Raises `OSError`."""
    stats = [file.stat() for file in files]
    return tuple((stat.st_mtime_ns, stat.st_ino, stat.st_size) for stat in stats)
