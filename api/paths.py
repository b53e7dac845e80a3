"""Ids in paths. An id of somebody else's system may hold any printable character, `/` included (sent as %2F)."""

from __future__ import annotations

import unicodedata
from typing import Any

from flask import Flask
from werkzeug.exceptions import NotFound
from werkzeug.routing import BaseConverter, IntegerConverter


class SlugConverter(BaseConverter):
    """A program, affiliate or offer."""

    regex = r"[A-Za-z0-9._-]{1,64}"


class VersionConverter(IntegerConverter):
    """A version, such as of an offer's terms."""

    regex = r"[1-9]\d{0,8}"


class CurrencyConverter(BaseConverter):
    """A currency, by its ISO 4217 code."""

    regex = r"[A-Z]{3}"


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
        (ExternalIdConverter, lambda _: external),
        (RecordKeyConverter, lambda _: record),
    ]
