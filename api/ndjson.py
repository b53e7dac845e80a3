"""Many at once: NDJSON bodies, a record a line, a result a line. One bad line spoils nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import msgspec
from flask import Response

from api import answers, body
from api.body import JSON_LIMIT, NDJSON_LIMIT, NDJSON_LINES, StrictDecoder
from api.errors import Problem, at, unavailable
from ledger.domain.errors import InvalidInput, Refusal, Unavailable
from ledger.domain.event import Answer

T = TypeVar("T")
Outcome = Answer | Refusal | Problem


def record_lines(
    decoder: StrictDecoder[T],
    at_once: int,
    record: Callable[[Sequence[T]], Sequence[Answer | Refusal]],
    most: int = NDJSON_LINES,
) -> Response:
    """Read the request's lines, record those that can be read, and answer with a result for each.

    record: commits up to at_once of them; most: how many lines may come. When the database goes away in the middle, the
    lines before are recorded and said to be, and the rest answer 503. Raises Problem 413, Unavailable.
    """
    results: list[dict[str, Any]] = []
    good: list[T] = []
    places: list[int] = []
    for number, found in decode_lines(decoder, body.read(NDJSON_LIMIT), most):
        if isinstance(found, Problem):
            results.append(answers.line_result(number, found))
        else:
            good.append(found)
            places.append(number)
    for start in range(0, len(good), at_once):
        part = good[start : start + at_once]
        try:
            outcomes: Sequence[Outcome] = record(part)
        except Unavailable:
            if start == 0:
                raise
            outcomes = [unavailable()] * len(part)
        results += map(answers.line_result, places[start:], outcomes)
    results.sort(key=lambda result: result["line"])
    return answers.ndjson(results)


def decode_lines(decoder: StrictDecoder[T], raw: bytes, most: int = NDJSON_LINES) -> Iterator[tuple[int, T | Problem]]:
    """(number from 1, the line's struct or the problem with it); empty lines are counted and skipped.
    Raises Problem 413 for too many."""
    count = raw.count(b"\n") + (not raw.endswith(b"\n"))
    if count > most:
        raise Problem(413, f"The body has more than {most} lines.")
    if (together := _all_good(decoder, raw, count)) is not None:
        return enumerate(together, 1)
    return _one_by_one(decoder, raw)


def _one_by_one(decoder: StrictDecoder[T], raw: bytes) -> Iterator[tuple[int, T | Problem]]:
    for number, line in enumerate(raw.split(b"\n"), 1):
        if line and not line.isspace():
            found = _decode_line(decoder, line)
            yield number, found


def _all_good(decoder: StrictDecoder[T], raw: bytes, count: int) -> list[T] | None:
    """All lines in one call, when nothing about them is doubtful; None for a look at each."""
    if len(raw) > JSON_LIMIT and max(map(len, raw.split(b"\n"))) > JSON_LIMIT:
        return None
    try:
        found = decoder.decode_lines(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, InvalidInput, RecursionError):
        return None
    if len(found) != count or body.may_have_duplicate_keys(raw):
        return None
    return found


def _decode_line(decoder: StrictDecoder[T], line: bytes) -> T | Problem:
    if len(line) > JSON_LIMIT:
        return Problem(413, f"The line is larger than {JSON_LIMIT} bytes.")
    try:
        return decoder(line)
    except Problem as problem:
        return problem
    except InvalidInput as error:
        return Problem(422, error.message, code=error.code, errors=[at(error.field, error.message)])
