"""What every answer shares: the position of a write, and problems."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

Position = Annotated[int, Meta(ge=0, description="of the command's last event in the log")]


class FieldError(Struct, omit_defaults=True):
    """Where (one of the three) and what would be right."""

    detail: str
    pointer: str | None = None
    parameter: str | None = None
    header: str | None = None


class Problem(Struct, omit_defaults=True):
    """A problem document (RFC 9457). instance: the request id; code: for programs to tell problems apart."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    instance: str = ""
    errors: list[FieldError] = []
