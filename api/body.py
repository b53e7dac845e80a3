"""Bodies: read within limits and decoded strictly. What two JSON readers could understand differently is refused:
NaN, duplicate keys, lone surrogates, bad UTF-8, nesting deeper than 32, numbers that do not fit."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Generic, TypeVar

import msgspec
from flask import request
from webargs.flaskparser import FlaskParser
from werkzeug.exceptions import RequestEntityTooLarge

from api.errors import Problem
from ledger.domain.errors import InvalidInput
from ledger.domain.plans import plan_check

JSON_LIMIT = 64 * 1024  # bytes, also of one line of NDJSON
PLAN_LIMIT = plan_check.TEXT_MAX  # bytes, of a body with a commission plan
NDJSON_LIMIT = 16 * 1024 * 1024  # bytes
NDJSON_LINES = 10_000
DEEPEST = 32
NDJSON = "application/x-ndjson"

T = TypeVar("T")
_plain = msgspec.json.Decoder().decode
_plain_lines = msgspec.json.Decoder().decode_lines


def is_json() -> bool:
    """Whether the request says that its body is JSON."""
    if request.environ.get("CONTENT_TYPE") == "application/json":  # parsing it takes 10 µs
        return True
    kind = request.mimetype
    return kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))


def unsupported(*kinds: str) -> Problem:
    """415."""
    return Problem(415, f"Send {' or '.join(kinds)}.")


def too_large(limit: int) -> Problem:
    """413."""
    return Problem(413, f"The body is larger than {limit} bytes.")


def read(limit: int = JSON_LIMIT) -> bytes:
    """The request's body. Raises Problem 413, or 400 for one that is shorter than it said."""
    said = request.environ.get("CONTENT_LENGTH") or ""
    if said.isdecimal():
        length = int(said) if len(said) < 16 else limit + 1
        if length > limit:
            raise too_large(limit)
        # Straight from the server: its length is known, so none of the layers that guard a stream is needed.
        raw: bytes = request.environ["wsgi.input"].read(length) if length else b""
        if len(raw) != length:
            raise Problem(400, "The body ended before its Content-Length.")
        return raw
    # One more than the limit: a body of unknown length is cut off there without a word.
    request.max_content_length = limit + 1
    try:
        raw = request.get_data(cache=False)
    except RequestEntityTooLarge:
        raise too_large(limit) from None
    if len(raw) > limit:
        raise too_large(limit)
    return raw


# --- strict decoding -------------------------------------------------------------------------------------


class _DuplicateKey(ValueError):
    """An object has a key twice."""


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        raise _DuplicateKey(next(key for key, _ in pairs if key in seen or seen.add(key)))  # type: ignore[func-returns-value]
    return found


def malformed(detail: str) -> Problem:
    """400: not the JSON that every reader understands alike."""
    return Problem(400, f"The body is not valid JSON: {detail}.", code="malformed_json")


def may_have_duplicate_keys(raw: bytes) -> bool:
    """A quick look at well-formed JSON or NDJSON (under 1 µs for eight fields): False only if no object has a key
    twice. Every key ends in `":` unless there is white space between; so where those are as many as the keys that
    remain after decoding, none was there twice."""
    if b" :" in raw or b"\t:" in raw or b"\n:" in raw or b"\r:" in raw:
        return True
    outermost = _plain_lines(raw)
    written = raw.count(b'":')
    if all(map(_is_object, outermost)) and sum(map(len, outermost)) == written:
        return False
    return _count_keys(outermost) != written


def _is_object(value: Any) -> bool:
    return type(value) is dict


def _count_keys(value: Any) -> int:
    if isinstance(value, dict):
        return len(value) + sum(_count_keys(one) for one in value.values() if isinstance(one, dict | list))
    return sum(_count_keys(one) for one in value if isinstance(one, dict | list))


def refuse_duplicate_keys(raw: bytes) -> None:
    """Raise Problem 400 if any object of a well-formed document has a key twice (readers disagree which one counts:
    RFC 8259, section 4)."""
    # the quick look reads lines, and a document may have several
    if b"\n" not in raw and not may_have_duplicate_keys(raw):
        return
    try:
        json.loads(raw, object_pairs_hook=_no_duplicates)
    except _DuplicateKey as twice:
        name = msgspec.json.encode(str(twice)[:100]).decode()
        raise malformed(f"the key {name} is there twice") from None
    except RecursionError:
        raise malformed(f"it is nested deeper than {DEEPEST}") from None


def _refuse_depth(raw: bytes) -> None:
    """Raise Problem 400 for nesting deeper than DEEPEST, without recursing."""
    if raw.count(b"[") + raw.count(b"{") <= DEEPEST:
        return
    depth, inside, escaped = 0, False, False
    for byte in raw:
        if inside:
            if escaped:
                escaped = False
            elif byte == 0x5C:
                escaped = True
            elif byte == 0x22:
                inside = False
        elif byte == 0x22:
            inside = True
        elif byte in b"[{":
            depth += 1
            if depth > DEEPEST:
                raise malformed(f"it is nested deeper than {DEEPEST}")
        elif byte in b"]}":
            depth -= 1


def decode(raw: bytes) -> Any:
    """A JSON document, for a schema to look at. Raises Problem 400."""
    _refuse_depth(raw)
    try:
        found = _plain(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise malformed(_said(error)) from None
    refuse_duplicate_keys(raw)
    return found


_PATH = re.compile(r"^(?P<what>.*?)(?: - at `\$(?P<path>[^`]*)`)?$", re.DOTALL)
_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(.*)`")


def _said(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8"
    return str(error).removeprefix("JSON is malformed: ")


class StrictDecoder(Generic[T]):
    """Decodes JSON straight into a struct that forbids unknown fields, as strictly as decode(). said: by a field's
    pointer, what is right where a value of another kind is sent."""

    def __init__(self, struct: type[T], said: Mapping[str, str] | None = None) -> None:
        decoder = msgspec.json.Decoder(struct)
        self._said = said
        self._decode = decoder.decode
        # NDJSON, as msgspec reads it: the caller sees to the rest of the strictness
        self.decode_lines = decoder.decode_lines

    def __call__(self, raw: bytes) -> T:
        """Raises Problem 400 for what is not JSON, 422 naming the field for what is not this struct."""
        try:
            found = self._decode(raw)
            refuse_duplicate_keys(raw)
        except msgspec.ValidationError as error:
            # whether it is JSON at all comes first: the decoder stops at the first field that it does not like
            decode(raw)
            raise invalid(error, self._said) from None
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise malformed(_said(error)) from None
        except InvalidInput as error:
            decode(raw)
            raise error from None
        except RecursionError:
            raise malformed(f"it is nested deeper than {DEEPEST}") from None
        return found


def invalid(error: msgspec.ValidationError, said: Mapping[str, str] | None = None) -> Problem:
    """422, pointing at the field of a msgspec error. said: see StrictDecoder."""
    match = _PATH.match(str(error))
    what, path = (match["what"], match["path"] or "") if match else (str(error), "")
    pointer = "".join("/" + part for part in re.findall(r"[^.\[\]]+", path))
    if field := _UNKNOWN.fullmatch(what):
        pointer, what = f"{pointer}/{escaped(field[1])}", "is not a field of this resource"
    elif field := _MISSING.fullmatch(what):
        pointer, what = f"{pointer}/{field[1]}", "is required"
    elif said is not None and pointer in said:
        what = said[pointer]
    return Problem(
        422,
        "The body has a field that is not right.",
        code="invalid_input",
        errors=[{"pointer": pointer, "detail": what}],
    )


def escaped(token: str) -> str:
    """A JSON pointer's token (RFC 6901), shortened: it comes from a stranger."""
    return token[:100].replace("~", "~0").replace("/", "~1")


# --- what marshmallow looks at -------------------------------------------------------------------------------


class StrictParser(FlaskParser):
    """The library's parser of arguments, with our decoder, and our problems instead of its errors."""

    DEFAULT_UNKNOWN_BY_LOCATION = {**FlaskParser.DEFAULT_UNKNOWN_BY_LOCATION, "query": "raise"}

    def load_json(self, req: Any, schema: Any) -> Any:
        """The body as decoded JSON; an object without fields when there is none."""
        raw = read(getattr(schema, "body_limit", JSON_LIMIT))
        if not raw:
            return {}
        if not is_json():
            raise unsupported("application/json")
        return decode(raw)

    def handle_error(self, error: Any, req: Any, schema: Any, *, error_status_code: Any, error_headers: Any) -> Any:
        """422 with a pointer (or parameter, or header) for each field that is not right."""
        errors: list[dict[str, str]] = []
        for location, messages in error.messages.items():
            name = {"json": "pointer", "query": "parameter", "headers": "header"}.get(location, "parameter")
            for path, detail in _flat(messages):
                where = "".join("/" + escaped(part) for part in path) if name == "pointer" else ".".join(path)[:100]
                errors.append({name: where, "detail": detail})
        raise Problem(422, "Something in the request is not right.", code="invalid_input", errors=errors[:50])


def _flat(messages: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    if isinstance(messages, dict):
        for key, value in messages.items():
            yield from _flat(value, path if key == "_schema" else (*path, str(key)))
    elif isinstance(messages, list):
        for value in messages:
            yield from _flat(value, path)
    else:
        yield path, str(messages)
