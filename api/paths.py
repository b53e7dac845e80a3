"""Ids in paths. An id of somebody else's system may hold any printable character, `/` included (sent as %2F)."""

from __future__ import annotations

import unicodedata
from typing import Any

from flask import Flask
from werkzeug.exceptions import NotFound
from werkzeug.routing import BaseConverter, IntegerConverter

from ledger.audit.merkle import TILE_WIDTH, Tile


class SlugConverter(BaseConverter):
    """A program, affiliate or offer."""

    regex = r"[A-Za-z0-9._-]{1,64}"


class VersionConverter(IntegerConverter):
    """A version, such as of an offer's terms."""

    regex = r"[1-9]\d{0,8}"


class CurrencyConverter(BaseConverter):
    """A currency, by its ISO 4217 code."""

    regex = r"[A-Z]{3}"


class LogConverter(BaseConverter):
    """One of a program's logs."""

    regex = "books|traffic"


class PositionConverter(IntegerConverter):
    """A position of a log, or how many events it has."""

    regex = r"[1-9]\d{0,17}"


class LevelConverter(IntegerConverter):
    """A level of tiles."""

    regex = r"[0-7]"


class TileConverter(BaseConverter):
    """A tile's number and width (C2SP tlog-tiles): three digits a part, all but the last with an x before them, and
    .p/W behind one that is not complete. Comes as a tile of level 0."""

    part_isolating = False
    regex = r"(?:x\d{3}/){0,5}\d{3}(?:\.p/[1-9]\d{0,2})?"

    def to_python(self, value: str) -> Tile:
        """Raises NotFound for what no tile is called."""
        number, _, width = value.partition(".p/")
        found = Tile(0, int(number.replace("x", "").replace("/", "")), int(width or TILE_WIDTH))
        if found.path() != f"0/{value}":
            raise NotFound()
        return found


class ExternalIdConverter(BaseConverter):
    """An order, coupon or adjustment, NFC-normalised. A server decodes %2F before we see it, so this takes slashes;
    what follows an id in a path (/hold, /reversals …) is told apart by standing last."""

    part_isolating = False
    regex = ".+?"
    longest = 128

    def to_python(self, value: str) -> str:
        """Raises NotFound for what cannot be an id (ValidationError would become 405 where other methods are)."""
        if not value.isascii():
            value = unicodedata.normalize("NFC", value)
        # U+FFFD stands where the path was not UTF-8: whatever id that was, it is not this one
        if len(value) > self.longest or not value.isprintable() or "\ufffd" in value:
            raise NotFound()
        return value


class RecordKeyConverter(ExternalIdConverter):
    """An exception: the kind of its record and that record's id."""

    longest = 160


def register(app: Flask) -> None:
    """Make the converters known, and keep // in an id from being merged."""
    app.url_map.converters |= {
        "slug": SlugConverter,
        "version": VersionConverter,
        "currency": CurrencyConverter,
        "log": LogConverter,
        "position": PositionConverter,
        "level": LevelConverter,
        "tile": TileConverter,
        "ext": ExternalIdConverter,
        "record": RecordKeyConverter,
    }
    app.url_map.merge_slashes = False
    app.url_map.strict_slashes = True


def schemas() -> list[tuple[type[BaseConverter], Any]]:
    """(converter, its OpenAPI schema as a function of the converter)."""
    slug = {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,64}$"}
    external = {"type": "string", "minLength": 1, "maxLength": 128}
    record = {"type": "string", "minLength": 1, "maxLength": 160}
    return [
        (SlugConverter, lambda _: slug),
        (VersionConverter, lambda _: {"type": "integer", "minimum": 1, "maximum": 999_999_999}),
        (CurrencyConverter, lambda _: {"type": "string", "pattern": "^[A-Z]{3}$"}),
        (LogConverter, lambda _: {"type": "string", "enum": ["books", "traffic"]}),
        (PositionConverter, lambda _: {"type": "integer", "minimum": 1, "maximum": 10**18 - 1}),
        (LevelConverter, lambda _: {"type": "integer", "minimum": 0, "maximum": 7}),
        (TileConverter, lambda _: {"type": "string", "pattern": f"^{TileConverter.regex}$"}),
        (ExternalIdConverter, lambda _: external),
        (RecordKeyConverter, lambda _: record),
    ]
