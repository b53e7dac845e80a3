"""Verbs that read files."""

from __future__ import annotations

COMMANDS = ()
