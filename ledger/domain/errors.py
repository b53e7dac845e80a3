"""Refusals: what the ledger says when it will not do something. The docstring is the default message."""

from __future__ import annotations

from typing import Any


class Refusal(Exception):
    """The ledger refuses this."""

    code = "refused"

    def __init__(self, message: str | None = None, **details: Any) -> None:
        self.message = message or (type(self).__doc__ or "").strip().splitlines()[0]
        self.details = details
        super().__init__(self.message)


class InvalidInput(Refusal):
    """The input is not well formed."""

    code = "invalid_input"

    def __init__(self, field: str, message: str, **details: Any) -> None:
        """field: a JSON pointer without its slash, or a dotted name; message: what would be right."""
        self.field = field
        super().__init__(f"{field}: {message}", field=field, **details)


class NotFound(Refusal):
    """There is no such record in this program."""

    code = "not_found"


class DiffersFromOriginal(Refusal):
    """A record with this id exists already, with other content."""

    code = "differs_from_original"

    def __init__(self, record: str, fields: list[str]) -> None:
        self.fields = fields
        super().__init__(f"{record} exists already and differs in: {', '.join(fields)}", fields=fields)


class KeyReused(Refusal):
    """This Idempotency-Key was used before with another body."""

    code = "idempotency_key_reused"


class WrongState(Refusal):
    """The record's state does not allow this."""

    code = "wrong_state"


class SamePerson(Refusal):
    """Two people are needed: whoever proposed it cannot also decide it."""

    code = "same_person"


class Unavailable(Refusal):
    """The ledger cannot be reached just now; nothing was lost, try again."""

    code = "unavailable"
