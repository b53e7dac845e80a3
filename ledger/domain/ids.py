"""Names and ids: callers bring their own, and a record's stream id is derived from them."""

from __future__ import annotations

import re
import unicodedata
from hashlib import sha1, sha256
from typing import Annotated
from uuid import NAMESPACE_URL, UUID, SafeUUID, uuid5

from msgspec import Meta

from ledger.domain.errors import InvalidInput

NAMESPACE = uuid5(NAMESPACE_URL, "commission-ledger")

SLUG_PATTERN = r"^[A-Za-z0-9._-]{1,64}$"
_NO_PUNCTUATION = str.maketrans("", "", "._-")
_SLUG = re.compile(r"[A-Za-z0-9._-]{1,64}")
# The same few names come with every click and sale: remembering the good ones is half the time of matching them.
_good_slugs: set[str] = set()

Slug = Annotated[str, Meta(pattern=SLUG_PATTERN, description="1-64 of A-Z a-z 0-9 . _ -")]
ExternalId = Annotated[str, Meta(min_length=1, max_length=128, description="1-128 printable characters")]
# Longer than other ids: ours hold an affiliate's and an offer's name, a nonce, an instant and a signature (up to 214).
CLICK_ID_MAX = 256
ClickId = Annotated[str, Meta(min_length=1, max_length=CLICK_ID_MAX, description="1-256 printable characters")]

BIGINT_MAX = 2**63 - 1
# Money a caller may send: far below the bigint limit, so that sums and products of it stay inside.
AMOUNT_MAX = 10**13
Amount = Annotated[int, Meta(ge=0, le=AMOUNT_MAX, description="minor units of the currency")]
SignedAmount = Annotated[int, Meta(ge=-AMOUNT_MAX, le=AMOUNT_MAX, description="minor units of the currency")]
Currency = Annotated[str, Meta(pattern=r"^[A-Z]{3}$", description="ISO 4217")]


def program_id(program: str) -> UUID:
    """The id of a program, from the name people use for it."""
    return uuid5(NAMESPACE, f"program:{program}")


_CLEAR = ~(0xF000 << 64 | 0xC000 << 48)
_VERSION_5 = 0x5000 << 64 | 0x8000 << 48
_new, _set, _UNKNOWN = object.__new__, object.__setattr__, SafeUUID.unknown


def stream_id(program: UUID, key: str) -> UUID:
    """uuid5(program, "kind:external-id"), in two thirds of uuid.uuid5's time: several a command are made.

    key: "kind:external-id". Source: RFC 9562, section 5.5.
    """
    digest = sha1(program.bytes + key.encode(), usedforsecurity=False).digest()
    made = _new(UUID)
    _set(made, "int", int.from_bytes(digest[:16], "big") & _CLEAR | _VERSION_5)
    _set(made, "is_safe", _UNKNOWN)
    return made


def stream_id_parts(program: bytes, key: str) -> tuple[bytes, str]:
    """stream_id as 16 bytes and as text, without making a UUID: clicks are many, and need nothing else of it.

    program: the program id's bytes.
    """
    digest = sha1(program + key.encode(), usedforsecurity=False).digest()
    raw = (int.from_bytes(digest[:16], "big") & _CLEAR | _VERSION_5).to_bytes(16, "big")
    text = raw.hex()
    return raw, f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def check_slug(field: str, value: str) -> str:
    """A program, affiliate, offer or holder name. Raises InvalidInput."""
    if value not in _good_slugs:
        if not _SLUG.fullmatch(value):
            raise InvalidInput(field, "must be 1-64 characters of A-Z a-z 0-9 . _ -")
        if len(_good_slugs) >= 10_000:
            _good_slugs.clear()
        _good_slugs.add(value)
    return value


def same_person(one: str, other: str) -> bool:
    """Whether two holder names are meant for one person: 'Ana', 'ana' and 'a.na' are."""
    return _person(one) == _person(other)


def _person(holder: str) -> str:
    return holder.casefold().translate(_NO_PUNCTUATION)


def check_external_id(field: str, value: str) -> str:
    """An id from somebody else's system, NFC-normalised. Raises InvalidInput."""
    if not value.isascii():
        value = unicodedata.normalize("NFC", value)
    if not 1 <= len(value) <= 128 or not value.isprintable():
        raise InvalidInput(field, "must be 1-128 printable characters")
    return value


def check_click_id(field: str, value: str) -> str:
    """A click's id, ours or somebody else's, NFC-normalised. Raises InvalidInput."""
    if not value.isascii():
        value = unicodedata.normalize("NFC", value)
    if not 1 <= len(value) <= CLICK_ID_MAX or not value.isprintable():
        raise InvalidInput(field, f"must be 1-{CLICK_ID_MAX} printable characters")
    return value


def check_pseudonym(field: str, value: str) -> str:
    """A customer's or visitor's id: events hold pseudonyms, so an e-mail address is refused."""
    value = check_external_id(field, value)
    if "@" in value:
        raise InvalidInput(field, "must be a pseudonymous id, not an e-mail address")
    return value


def fitted(whole: str, longest: int = 128) -> str:
    """An id of our own making, its end replaced by a digest where it is too long for one."""
    if len(whole) <= longest:
        return whole
    return f"{whole[: longest - 33]}#{sha256(whole.encode()).hexdigest()[:32]}"
