"""Named SQL blocks. A .sql file holds blocks that begin with `-- name: verb_noun` and a sentence of what they do."""

from __future__ import annotations

import re
from importlib.resources import files
from typing import LiteralString, cast

_BLOCK = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


def load(package: str, filename: str) -> dict[str, LiteralString]:
    """The blocks of a file that lies beside a package's code, by name. Raises ValueError for a name given twice."""
    text = files(package).joinpath(filename).read_text()
    parts = _BLOCK.split(text)
    names = parts[1::2]
    if len(set(names)) != len(names):
        raise ValueError(f"{filename} names a block twice")
    return dict(zip(names, cast("list[LiteralString]", parts[2::2]), strict=True))
