"""What an import says when it will not begin."""

from __future__ import annotations


class ImportRefused(Exception):
    """The file, its mapping or the program does not allow this import; nothing was recorded. The message names the
    file, line and column where there is one."""
