"""What is said of goals, as the OpenAPI document describes it."""

from __future__ import annotations

from msgspec import Struct

from ledger.goals import GoalProgress


class Goals(Struct):
    """Every goal that is set to an affiliate now, by offer."""

    items: list[GoalProgress]
