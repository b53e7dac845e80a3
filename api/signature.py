"""The signature of a postback: what docs/postback.md tells senders to compute, and nothing else."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from datetime import datetime, timedelta
from urllib.parse import quote

import msgspec

TOKEN = "security_token"
TOLERANCE = timedelta(minutes=10)


def canonical_string(parameters: Mapping[str, str]) -> str:
    """All parameters but the token as k=v, percent-encoded, sorted by name and joined by '&'.

    Unreserved characters (A-Z a-z 0-9 - . _ ~) stay as they are, every other byte of the UTF-8 text becomes %XX
    (RFC 3986, section 2); so a space is %20, never '+'.
    """
    pairs = sorted((name, value) for name, value in parameters.items() if name != TOKEN)
    return "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in pairs)


def security_token(secret: str, parameters: Mapping[str, str]) -> str:
    """HMAC-SHA256 of the canonical string, 64 hex digits. The key is the secret's text as it was handed out."""
    return hmac.digest(secret.encode(), canonical_string(parameters).encode(), "sha256").hex()


def is_signed(secret: str, parameters: Mapping[str, str]) -> bool:
    """Whether the security_token among the parameters is theirs. Takes the same time wherever it differs."""
    given = parameters.get(TOKEN, "").lower()
    return hmac.compare_digest(given.encode(), security_token(secret, parameters).encode())


def instant(text: str) -> datetime:
    """Unix seconds (1767225600) or RFC 3339 with a zone (2026-01-01T00:00:00Z). Raises ValueError."""
    if text.isascii() and text.isdigit() and len(text) <= 12:
        return msgspec.convert(int(text), datetime, strict=False)
    found = msgspec.convert(text, datetime)  # ValidationError is a ValueError
    if found.tzinfo is None:
        raise ValueError("no zone")
    return found


def is_timely(at: datetime, now: datetime) -> bool:
    """Whether a postback's timestamp is close enough to now: an old one may be a replay of what was overheard."""
    return abs(now - at) <= TOLERANCE
