"""A restored program pays nobody until a person has compared it with the bank. Pure decisions, no database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from memory_view import shop
from support import T0

from ledger.domain.errors import DiffersFromOriginal, InvalidInput, WrongState
from ledger.domain.restore import (
    BankMatched,
    BooksRestored,
    ConfirmBankMatched,
    Loss,
    RecordRestore,
    payouts_blocked,
)

RESTORE = RecordRestore(position=12, traffic_position=3, backup_created_at=T0)
MATCHED = ConfirmBankMatched(reason="statement of 3 March: every payout of the run is there")


def test_payouts_are_blocked_from_the_restore_to_the_bank_match() -> None:
    """And neither before it nor after; a second restore blocks them again."""
    view = shop()
    assert not payouts_blocked(view)
    view.when(RESTORE)
    assert payouts_blocked(view)
    view.when(MATCHED, "omar")
    assert not payouts_blocked(view)
    view.when(RecordRestore(position=15, backup_created_at=T0 + timedelta(days=1)))
    assert payouts_blocked(view)


def test_a_restore_says_what_was_restored_and_what_was_lost() -> None:
    """Where the logs ended, when the backup was taken, and the positions that somebody accepted to lose."""
    lost = [Loss("books", 13, 20), Loss("traffic", 4, 4)]
    at = datetime(2026, 1, 1, 2, tzinfo=timezone(timedelta(hours=2)))
    event = shop().one(BooksRestored, RecordRestore(position=12, traffic_position=3, backup_created_at=at, lost=lost))
    assert (event.position, event.traffic_position, event.lost) == (12, 3, lost)
    assert event.backup_created_at == T0
    assert event.backup_created_at.tzinfo is UTC


def test_a_repeated_restore_or_match_gets_the_same_answer() -> None:
    """Nothing is appended the second time."""
    view = shop()
    assert view.again(RESTORE).body == {"restored_position": 12, "payouts": "blocked until the bank is matched"}
    assert view.again(MATCHED).body == {"restored_position": 12, "payouts": "allowed"}


def test_a_restore_that_contradicts_an_earlier_one_is_refused() -> None:
    """The same position with other content names what differs; a position before an earlier restore cannot be."""
    view = shop()
    view.when(RESTORE)
    other = RecordRestore(position=12, backup_created_at=T0 + timedelta(days=1))
    assert view.refused(DiffersFromOriginal, other).fields == ["traffic_position", "backup_created_at"]
    view.refused(WrongState, RecordRestore(position=11, backup_created_at=T0))


def test_a_bank_match_needs_a_restore_and_a_reason_that_stays_sealed() -> None:
    """Nothing to confirm where nothing was restored; another reason later is another statement."""
    view = shop()
    view.refused(WrongState, MATCHED)
    view.when(RESTORE)
    event = view.one(BankMatched, MATCHED, "omar")
    assert event.position == 12
    assert view.unseal("program", "restores:books", "reason.12", event.reason) == MATCHED.reason
    other = view.refused(DiffersFromOriginal, ConfirmBankMatched(reason="another"))
    assert other.fields == ["reason"]
    for empty in ("", "  ", "x" * 2001):
        with pytest.raises(InvalidInput, match="reason"):
            ConfirmBankMatched(reason=empty)


@pytest.mark.parametrize(
    ("field", "fields"),
    [
        ("position", {"position": 0}),
        ("traffic_position", {"traffic_position": -1}),
        ("backup_created_at", {"backup_created_at": datetime(2026, 1, 1)}),  # noqa: DTZ001
        ("lost", {"lost": [Loss("books", 12, 20)]}),
        ("lost", {"lost": [Loss("books", 13, 12)]}),
        ("lost", {"lost": [Loss("clicks", 1, 2)]}),
    ],
)
def test_what_cannot_be_is_refused_by_name(field: str, fields: dict[str, Any]) -> None:
    """Positions begin at 1, an instant has a zone, and what is lost follows what was restored."""
    given: dict[str, Any] = {"position": 12, "traffic_position": 0, "backup_created_at": T0, **fields}
    with pytest.raises(InvalidInput) as caught:
        RecordRestore(**given)
    assert caught.value.field == field
