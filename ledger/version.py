"""Which code wrote a file: for auditors, who want to run the same again."""

from __future__ import annotations

from functools import cache
from hashlib import sha256
from pathlib import Path

VERSION = "0.1.0"  # as pyproject.toml has it; an installation without metadata must know it, too


@cache
def code_version() -> str:
    """The version and the first 12 hex digits of a SHA-256 over this package's code and SQL, such as
    0.1.0+3f2a77c0914e: two installations with the same one compute the same."""
    root = Path(__file__).parent
    digest = sha256()
    for path in sorted((*root.rglob("*.py"), *root.rglob("*.sql")), key=lambda path: path.relative_to(root).as_posix()):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(root).as_posix()}\0{len(content)}\0".encode() + content)
    return f"{VERSION}+{digest.hexdigest()[:12]}"
