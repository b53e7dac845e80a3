"""Where things stand in a JSON text: line and column of every value, by its JSON pointer."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from ledger.domain.plans.plan_shape import inside

_TOKEN = re.compile(r'[ \t\r\n]*("(?:[^"\\]|\\.)*"|[{}\[\]:,]|[^\s{}\[\]:,"]+)')


class Place(NamedTuple):
    """Both from 1; column: in characters."""

    line: int
    column: int


class Located(NamedTuple):
    """A JSON document; where its values begin, by pointer; and (pointer, place) of names that were there before in
    their object."""

    document: Any
    places: dict[str, Place]
    twice: list[tuple[str, Place]]

    def place(self, pointer: str) -> Place:
        """Where a pointer's value begins; of what is missing, where the object begins that lacks it."""
        while pointer not in self.places:
            pointer = pointer.rpartition("/")[0]
        return self.places[pointer]


def read(text: str) -> Located:
    """Raises json.JSONDecodeError, which has lineno and colno; RecursionError for what is nested too deep."""
    document = json.loads(text, parse_constant=_refuse(text))
    found = Located(document, {}, [])
    _locate(text, found)
    return found


def _refuse(text: str) -> Callable[[str], Any]:
    def refuse(name: str) -> Any:
        at = next(match.start(1) for match in _TOKEN.finditer(text) if match[1] == name)
        raise json.JSONDecodeError(f"{name} is not JSON", text, at)

    return refuse


class _Open(NamedTuple):
    """An object (names: those that were there) or a list (names None) that has not ended. pointer: its own; at: the
    pointer of the member or item that is next, as a list of one."""

    pointer: str
    names: set[str] | None
    at: list[str | int]


def _locate(text: str, found: Located) -> None:
    """Go through the tokens of well-formed JSON."""
    starts = [0, *(match.end() for match in re.finditer("\n", text))]
    line = 1
    stack: list[_Open] = []
    is_name = False
    for match in _TOKEN.finditer(text):
        token, at = match[1], match.start(1)
        while line < len(starts) and starts[line] <= at:
            line += 1
        place = Place(line, at - starts[line - 1] + 1)
        if token in "}]":
            stack.pop()
            is_name = False
        elif token == ":":
            is_name = False
        elif token == ",":
            if (names := stack[-1].names) is None:
                stack[-1].at[0] = int(stack[-1].at[0]) + 1
            is_name = names is not None
        elif is_name:
            _name(stack[-1], json.loads(token), place, found)
        else:
            pointer = inside(stack[-1].pointer, stack[-1].at[0]) if stack else ""
            found.places[pointer] = place
            if token in "{[":
                stack.append(_Open(pointer, set() if token == "{" else None, [0]))
                is_name = token == "{"


def _name(inner: _Open, name: str, place: Place, found: Located) -> None:
    assert inner.names is not None
    if name in inner.names:
        found.twice.append((inside(inner.pointer, name), place))
    inner.names.add(name)
    inner.at[0] = name
