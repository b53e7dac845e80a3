"""What is asked about goals and exchange rates."""

from __future__ import annotations

from typing import Any

from marshmallow import ValidationError, validates_schema

from api import schemas

_GOALS_AT = {"description": "by the terms in force then, of the period in which it lies; now, unless said"}


class GoalsAt(schemas.Strict):
    """As of when goals are asked for."""

    at = schemas.InstantField(load_default=None, metadata=_GOALS_AT)


class GoalsPage(schemas.Page):
    """Goals of all affiliates, as of an instant."""

    at = schemas.InstantField(load_default=None, metadata=_GOALS_AT)


class RatesPage(schemas.Page):
    """Which part of the rates of which pair of currencies; without a pair, of the newest of each."""

    base = schemas.currency(load_default=None)
    quote = schemas.currency(load_default=None)

    @validates_schema
    def _both(self, asked: dict[str, Any], **kwargs: Any) -> None:
        for one, other in (("base", "quote"), ("quote", "base")):
            if asked[one] is None and asked[other] is not None:
                raise ValidationError(f"Goes with {other}.", one)
