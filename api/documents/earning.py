"""What is said of goals, as the OpenAPI document describes it."""

from __future__ import annotations

from msgspec import Struct

from ledger.goals import AffiliateProgress, EarnedBonus, GoalProgress


class Goals(Struct):
    """Every goal that is set to an affiliate (now, or at the instant that was asked for), by offer; and every bonus
    that it ever earned."""

    items: list[GoalProgress]
    earned: list[EarnedBonus]


class GoalsOfAll(Struct):
    """A page of what affiliates have come to, the highest percentage first."""

    items: list[AffiliateProgress]
    next: str | None
