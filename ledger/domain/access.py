"""Access keys: who may do what. A key names its holder, expires, and is never issued to its issuer."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import ClassVar

from msgspec import Struct
from msgspec.structs import force_setattr

from ledger.domain import affiliate, erasure
from ledger.domain.errors import InvalidInput, NotFound, SamePerson, WrongState
from ledger.domain.event import Answer, Command, Decision, Event, in_utc
from ledger.domain.ids import check_slug, same_person
from ledger.domain.view import Needs, View

LONGEST_LIFE = timedelta(days=3660)
ROLES = ("admin", "ingest", "finance_maker", "finance_checker", "auditor", "affiliate")


class KeyIssued(Event, frozen=True):
    """A key exists; nothing of its secret stands here. holder is a staff or system id, not a person's name."""

    access_key_id: str
    role: str
    holder: str
    holder_kind: str
    expires_at: datetime
    affiliate_id: str = ""
    rotates: str = ""


class KeyRevoked(Event, frozen=True):
    """The key opens nothing any more."""

    access_key_id: str


class KeyState(Struct):
    """A key and whether it was revoked."""

    issued: KeyIssued
    revoked: bool = False


def key(access_key_id: str) -> str:
    """The stream key of an access key."""
    return f"key:{access_key_id}"


def fold(state: KeyState | None, event: Event) -> KeyState:
    """KeyState after an event."""
    if isinstance(event, KeyIssued):
        return KeyState(event)
    assert state is not None
    state.revoked = True
    return state


class IssueKey(Command, frozen=True):
    """Issue a key. access_key_id is made by the caller of this command, with the secret; role 'affiliate' is bound
    to one affiliate."""

    name: ClassVar[str] = "issue_key"
    access_key_id: str
    role: str
    holder: str
    holder_kind: str
    expires_at: datetime
    affiliate_id: str = ""
    rotates: str = ""

    def __post_init__(self) -> None:
        check_slug("holder", self.holder)
        if self.holder.startswith("job."):
            raise InvalidInput("holder", "must not begin with job.: the worker's jobs are called so")
        if self.role not in ROLES:
            raise InvalidInput("role", f"must be one of {', '.join(ROLES)}")
        if self.holder_kind not in ("person", "system"):
            raise InvalidInput("holder_kind", "must be person or system")
        if self.role == "finance_checker" and self.holder_kind != "person":
            raise InvalidInput("holder_kind", "must be person: a second look is a person's")
        if (self.role == "affiliate") != bool(self.affiliate_id):
            raise InvalidInput("affiliate_id", "is required for the role affiliate, and for no other")
        force_setattr(self, "expires_at", in_utc("expires_at", self.expires_at))

    def needs(self) -> Needs:
        """The key, the one that it rotates, and the affiliate that it is bound to, if any."""
        streams = [key(self.access_key_id)]
        if self.rotates:
            streams.append(key(self.rotates))
        if self.affiliate_id:
            streams += [affiliate.key(self.affiliate_id), erasure.affiliate_key(self.affiliate_id)]
        return Needs(streams)

    def decide(self, view: View) -> Decision:
        """KeyIssued. Raises SamePerson, NotFound, WrongState, InvalidInput."""
        body = {"key_id": self.access_key_id}
        if view.access_key(self.access_key_id) is not None:
            # Its id was made at random for this command: this is its retry after a lost reply.
            at = view.answered_at(key(self.access_key_id), KeyIssued)
            return Decision([], Answer("unchanged", body, at))
        if self.rotates:
            self._check_rotation(view)
        elif same_person(self.holder, view.actor):
            raise SamePerson("nobody issues a key to themselves")
        if self.affiliate_id and view.affiliate(self.affiliate_id) is None:
            raise NotFound(f"affiliate {self.affiliate_id} does not exist")
        if self.affiliate_id:
            erasure.refuse_erased(view, self.affiliate_id)
        if not view.now < self.expires_at <= view.now + LONGEST_LIFE:
            raise InvalidInput("expires_at", f"must be in the future, at most {LONGEST_LIFE.days} days from now")
        issued = KeyIssued(
            access_key_id=self.access_key_id,
            role=self.role,
            holder=self.holder,
            holder_kind=self.holder_kind,
            expires_at=self.expires_at,
            affiliate_id=self.affiliate_id,
            rotates=self.rotates,
        )
        return Decision([(key(self.access_key_id), issued)], Answer("recorded", body))

    def _check_rotation(self, view: View) -> None:
        """A rotation gives its holder nothing new: else it would be a way to issue a key to oneself."""
        old = view.access_key(self.rotates)
        if old is None:
            raise NotFound(f"key {self.rotates} does not exist")
        if old.revoked or old.issued.expires_at <= view.now:
            raise WrongState(f"key {self.rotates} opens nothing any more: somebody else issues the next one")
        if old.issued.holder != view.actor:
            # else whoever may rotate could act in the holder's name
            raise SamePerson("only its holder rotates a key; anybody else revokes it and issues another")
        for field in ("role", "holder", "holder_kind", "affiliate_id"):
            if getattr(old.issued, field) != getattr(self, field):
                raise InvalidInput(field, f"must be as in key {self.rotates}, which this one rotates")


class RevokeKey(Command, frozen=True):
    """Revoke a key."""

    name: ClassVar[str] = "revoke_key"
    access_key_id: str

    def needs(self) -> Needs:
        """The key."""
        return Needs([key(self.access_key_id)])

    def decide(self, view: View) -> Decision:
        """KeyRevoked, once. Raises NotFound."""
        state = view.access_key(self.access_key_id)
        if state is None:
            raise NotFound(f"key {self.access_key_id} does not exist")
        body = {"key_id": self.access_key_id, "status": "revoked"}
        if state.revoked:
            return Decision([], Answer("unchanged", body, view.answered_at(key(self.access_key_id), KeyRevoked)))
        return Decision(
            [(key(self.access_key_id), KeyRevoked(access_key_id=self.access_key_id))],
            Answer("recorded", body),
        )
