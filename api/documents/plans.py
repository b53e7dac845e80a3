"""What is said of a commission plan, as the OpenAPI document describes it."""

from __future__ import annotations

from msgspec import Struct


class PlanMistake(Struct):
    """pointer: where in the plan (RFC 6901), '' for all of it; detail: what would be right."""

    pointer: str
    detail: str


class PlanChecked(Struct):
    """Whether a plan may be published; up to 1,000 mistakes, or its hash and what it pays in words."""

    valid: bool
    plan_hash: str | None
    mistakes: list[PlanMistake]
    words: list[str]
