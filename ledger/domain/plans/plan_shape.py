"""The shape of a JSON document, held against msgspec types: every mistake at once, each with a JSON pointer.

msgspec itself stops at the first mistake. What is looked at is msgspec's own description of the types, so that the
decoder, this and the JSON Schema cannot differ in what they know.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import get_close_matches
from functools import lru_cache
from typing import Any, Final, NamedTuple

from msgspec import inspect

SHOWN_MOST = 60  # characters of a name that comes from a stranger
SUGGESTED_MOST = 10  # times that a document's names are compared with those that are known: it takes long


class Mistake(NamedTuple):
    """pointer: RFC 6901, '' for the whole document; message: what would be right."""

    pointer: str
    message: str


class _Bad:
    """Stands where a value has the wrong shape, so that what is beside it can still be looked at."""

    def __repr__(self) -> str:
        return "BAD"


BAD: Final = _Bad()


def inside(pointer: str, name: str | int) -> str:
    """The pointer of a member or item."""
    return f"{pointer}/{str(name).replace('~', '~0').replace('/', '~1')}"


def fitted(document: Any, struct: type, found: list[Mistake], most: int) -> Any:
    """The document with BAD in place of whatever does not fit, and without unknown members; mistakes are added to
    `found`. Nothing deeper than the types is looked at, and nothing behind the mistake that makes `most` of them: then
    the whole document is BAD."""
    try:
        return _fitted(document, _described(struct), "", _Walk(found, most))
    except _Enough:
        return BAD


class _Enough(Exception):
    """There are as many mistakes as anybody wants to hear of."""


class _Walk:
    """One look through a document."""

    def __init__(self, found: list[Mistake], most: int) -> None:
        self._found, self._most, self._suggested = found, most, 0

    def wrong(self, pointer: str, message: str) -> None:
        """Note a mistake. Raises _Enough with the last one."""
        self._found.append(Mistake(pointer, message))
        if len(self._found) >= self._most:
            raise _Enough

    def meant(self, value: Any, known: Sequence[Any]) -> str:
        """What a name may have been meant for, in words; '' where nothing is near, and of all but the first names."""
        if not isinstance(value, str) or self._suggested == SUGGESTED_MOST:
            return ""
        self._suggested += 1
        near = get_close_matches(value[:SHOWN_MOST], [one for one in known if isinstance(one, str)], 1)
        return f'; did you mean "{near[0]}"?' if near else ""


@lru_cache(maxsize=16)
def _described(struct: type) -> inspect.Type:
    return inspect.type_info(struct)


def _fitted(value: Any, kind: inspect.Type, pointer: str, walk: _Walk) -> Any:
    while isinstance(kind, inspect.Metadata):
        kind = kind.type
    match kind:
        case inspect.UnionType():
            return _either(value, kind, pointer, walk)
        case inspect.StructType():
            return _object(value, kind, pointer, walk)
        case inspect.ListType() | inspect.TupleType():
            return _list(value, kind, pointer, walk)
        case inspect.IntType():
            wrong = _integer(value, kind)
        case inspect.StrType():
            wrong = _text(value, kind)
        case inspect.BoolType():
            wrong = "" if type(value) is bool else "must be true or false"
        case inspect.LiteralType():
            # by type, too: 1.0 and true equal 1
            fits = any(type(value) is type(one) and value == one for one in kind.values)
            allowed = _or([_quoted(one) for one in kind.values])
            wrong = "" if fits else f"must be {allowed}{walk.meant(value, kind.values)}"
        case _:
            raise TypeError(f"{pointer}: {kind}")
    if wrong:
        walk.wrong(pointer, wrong)
        return BAD
    return value


def _either(value: Any, kind: inspect.UnionType, pointer: str, walk: _Walk) -> Any:
    """One type, or null. Of one that may be left out, msgspec tells no more than the type."""
    takes_null = any(isinstance(one, inspect.NoneType) for one in kind.types)
    if value is None and takes_null:
        return None
    (other,) = (one for one in kind.types if not isinstance(one, inspect.NoneType))
    return _fitted(value, other, pointer, walk)


def _object(value: Any, kind: inspect.StructType, pointer: str, walk: _Walk) -> Any:
    if not isinstance(value, dict):
        walk.wrong(pointer, f"must be an object{_is(value)}")
        return BAD
    fields = {field.encode_name: field for field in kind.fields}
    good = {}
    for name, one in value.items():
        if name in fields:
            good[name] = _fitted(one, fields[name].type, inside(pointer, name), walk)
        else:
            walk.wrong(inside(pointer, name[:SHOWN_MOST]), _unknown(name, list(fields), walk))
    for name, field in fields.items():
        if field.required and name not in value:
            walk.wrong(inside(pointer, name), "is required")
    return good


def _list(value: Any, kind: inspect.ListType | inspect.TupleType, pointer: str, walk: _Walk) -> Any:
    if not isinstance(value, list):
        walk.wrong(pointer, f"must be a list{_is(value)}")
        return BAD
    if isinstance(kind, inspect.TupleType):
        kinds: Sequence[inspect.Type] = kind.item_types
        if len(value) != len(kinds):
            walk.wrong(pointer, f"must have exactly {len(kinds)} items, it has {len(value)}")
            return BAD
    else:
        if len(value) < (kind.min_length or 0):
            walk.wrong(pointer, f"must have at least {kind.min_length} item")
        if kind.max_length is not None and len(value) > kind.max_length:
            walk.wrong(pointer, f"must have at most {kind.max_length:,} items, it has {len(value):,}")
            return BAD
        kinds = [kind.item_type] * len(value)
    return [_fitted(one, of, inside(pointer, n), walk) for n, (one, of) in enumerate(zip(value, kinds, strict=True))]


def _integer(value: Any, kind: inspect.IntType) -> str:
    if isinstance(value, float):
        return "must be an integer, written without a decimal point or an exponent"
    if type(value) is not int:
        return f"must be an integer{_is(value)}"
    low, high = kind.ge, kind.le
    if low is not None and high is not None and not low <= value <= high:
        return f"must be from {low} to {high}"
    return ""


def _text(value: Any, kind: inspect.StrType) -> str:
    if not isinstance(value, str):
        return f"must be text{_is(value)}"
    # $ would also be found before a newline at the end
    if kind.pattern is not None and not re.fullmatch(kind.pattern.removeprefix("^").removesuffix("$"), value):
        allowed, _, most = kind.pattern.removeprefix("^[").removesuffix("}$").partition("]{1,")
        return f"must be 1 to {most} characters of {allowed}"
    low, high = kind.min_length, kind.max_length
    if low is not None and high is not None and not low <= len(value) <= high:
        return f"must have {low} to {high} characters"
    return ""


def _is(value: Any) -> str:
    """What it is instead."""
    if isinstance(value, bool):
        return f", not {str(value).lower()}"
    kinds = {type(None): "null", str: "text", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return f", not {kinds[type(value)]}" if type(value) in kinds else ""


def _quoted(one: Any) -> str:
    return f'"{one}"' if isinstance(one, str) else str(one)


def _or(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"


def _unknown(name: str, known: Sequence[str], walk: _Walk) -> str:
    return "is not known here" + (walk.meant(name, known) or f"; known are {', '.join(known)}")
