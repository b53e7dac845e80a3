"""A statement's proof: one file from which anybody sees, offline, that the statement is what the sealed log says, and
that none of the affiliate's entries was left out. docs/statement-proofs.md describes it and what it proves to whom;
docs/verify_statement.py checks the same on one page, on its own.

The statement is not so much checked as made again: from the proven entries by the naive rules, and then compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from hashlib import sha256
from itertools import pairwise
from typing import Annotated, Any, NamedTuple
from uuid import NAMESPACE_URL, uuid5

import msgspec
from msgspec import Meta, Struct

from ledger.audit import merkle, notes
from ledger.audit.affiliate_trees import RECORDED, affiliate_leaf
from ledger.audit.lines import UnreadableLine, read_line
from ledger.audit.merkle import InvalidProof
from ledger.audit.notes import Checkpoint, InvalidNote, VerifierKey
from ledger.audit.statement_rebuilt import (
    Cut,
    DoesNotHold,
    Event,
    Move,
    check_statement,
    cut_of,
    moves,
    plain_json,
    same,
)

FORMAT = "commission-ledger-statement-proof/1"
ISSUED, CLOSED, REISSUED = "StatementIssued", "PeriodClosed", "PeriodReissued"
CALENDAR = "calendar:periods"
_NAMESPACE = uuid5(NAMESPACE_URL, "commission-ledger")
# A line feed or a slash in a name could make one hashed text of two, so names are checked before they are hashed.
Slug = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9._-]{1,64}\Z")]


class Proven(Struct, frozen=True, forbid_unknown_fields=True):
    """An export line (without its newline) and its inclusion proof (RFC 9162): numbers of the file's nodes."""

    line: str
    proof: list[int]


class Place(Struct, frozen=True, forbid_unknown_fields=True):
    """Where the affiliate stands in the tree of affiliates, from 0, and the inclusion proof, in base64."""

    index: int
    proof: list[str]


class Document(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The file. statement: its canonical JSON, as text; period_event: the PeriodClosed, reissue_event: of a later
    version its PeriodReissued; trees_event: an AffiliateTreesRecorded at or behind the statement's cut. entries: every
    event up to that one's cut that moved the affiliate's money, in order; nodes: hashes of the log's tree, in base64,
    each of which some proof uses. keys: those that the operator says to sign with; a reader trusts them only by
    another way."""

    format: str
    program: Slug
    affiliate_id: Slug
    period: Slug
    version: int
    keys: list[str]
    checkpoint: str
    statement: str
    statement_event: Proven
    previous_statement_event: Proven | None
    period_event: Proven
    reissue_event: Proven | None
    trees_event: Proven
    tree: Place
    entries: list[Proven]
    nodes: list[str]


class NotAProof(ValueError):
    """No file of this format; the message says why."""


class Verdict(NamedTuple):
    """A statement that is proven. key: whose signature counted; was_told: the reader named that key, it is not only the
    file's own word; witnesses: those that the reader named, all of which cosigned. head, line_count: of the statement;
    entry_count: all of the affiliate's entries that were recorded, which is up to recorded_position."""

    document: Document
    checkpoint: Checkpoint
    key: VerifierKey
    was_told: bool
    witnesses: list[VerifierKey]
    head: dict[str, Any]
    line_count: int
    entry_count: int
    recorded_position: int
    hash: str


def read(raw: bytes) -> Document:
    """The file. Raises NotAProof."""
    try:
        document = msgspec.convert(plain_json(raw.decode()), Document)
    except (msgspec.ValidationError, ValueError, RecursionError) as problem:
        raise NotAProof(str(problem)) from None
    if document.format != FORMAT:
        raise NotAProof(f"its format is {document.format!r}, and {FORMAT} is known here")
    return document


def verify(raw: bytes, trusted: Sequence[VerifierKey] = ()) -> Verdict:
    """Whether a file proves its statement. trusted: the operator's keys, as the reader knows them; without any, the
    file's own are taken, which proves nothing about who signed; and of witnesses, each of which must have cosigned.
    Raises NotAProof, DoesNotHold."""
    document = read(raw)
    try:
        return _verified(document, trusted)
    except DoesNotHold:
        raise
    except (InvalidNote, UnreadableLine) as problem:
        raise DoesNotHold(str(problem)) from None
    except (LookupError, TypeError, ValueError, OverflowError, RecursionError, AttributeError) as problem:
        raise DoesNotHold(f"something in it is not what it should be: {problem!r}") from None


def _verified(document: Document, trusted: Sequence[VerifierKey]) -> Verdict:
    was_told = any(key.algorithm == notes.ED25519 for key in trusted)
    own = [] if was_told else [notes.read_verifier_key(text) for text in document.keys]
    keys = [*(key for key in own if key.algorithm == notes.ED25519), *trusted]
    checkpoint = notes.open_checkpoint(document.checkpoint, keys)
    if not f"/{checkpoint.origin}".endswith(f"/{document.program}/books"):
        raise DoesNotHold(f"the checkpoint is of {checkpoint.origin}, not of the books of {document.program}")
    signed = notes.verified_by(notes.read_note(document.checkpoint), keys)
    witnesses = [key for key in trusted if key.algorithm == notes.COSIGNATURE_V1]
    for witness in witnesses:
        if witness not in signed:
            raise DoesNotHold(f"the witness {witness.name} did not sign this checkpoint; its key is {witness}")
    lines = _Lines(document, checkpoint)
    issued = lines.event(document.statement_event, ISSUED, f"statement:{document.affiliate_id}/{document.period}")
    closed = lines.event(document.period_event, CLOSED, CALENDAR)
    trees = lines.event(document.trees_event, RECORDED, CALENDAR)
    _check_event(document, issued, closed)
    _check_cut(lines, document, issued, closed)
    before = _check_previous(lines, document, issued)
    entries = [lines.read(one, "entry") for one in document.entries]
    lines.check_nodes()
    made_by = _check_entries(document, issued, trees, entries)
    head, line_count = check_statement(document.statement, document.program, issued, closed, before, made_by)
    return Verdict(
        document=document,
        checkpoint=checkpoint,
        key=next(key for key in signed if key.name == checkpoint.origin and key.algorithm == notes.ED25519),
        was_told=was_told,
        witnesses=witnesses,
        head=head,
        line_count=line_count,
        entry_count=len(entries),
        recorded_position=trees.state["cut_position"],
        hash=issued.state["hash"],
    )


# --- that the log has these lines ------------------------------------------------------------------------


class _Lines:
    """Reads the file's lines and checks each against the checkpoint."""

    def __init__(self, document: Document, checkpoint: Checkpoint) -> None:
        self._document, self._checkpoint = document, checkpoint
        self._nodes = [notes.from_base64(text) for text in document.nodes]
        self._used: set[int] = set()
        self._program_id = uuid5(_NAMESPACE, f"program:{document.program}")

    def event(self, proven: Proven, topic: str, stream: str) -> Event:
        """An event that must have this topic, in this stream of the program. Raises DoesNotHold."""
        event = self.read(proven, topic)
        self.must_be(event, topic, stream)
        return event

    def must_be(self, event: Event, topic: str, stream: str) -> None:
        """Raises DoesNotHold for an event of another topic, or of another stream."""
        if (event.line.topic, event.line.originator_id) != (topic, str(uuid5(self._program_id, stream))):
            raise DoesNotHold(f"the {event.line.topic} at position {event.line.position} is no {topic} of {stream}")

    def check_nodes(self) -> None:
        """When all lines are read, no node is left over. Raises DoesNotHold."""
        if len(self._used) != len(self._nodes):
            raise DoesNotHold("the file has nodes that no proof uses")

    def read(self, proven: Proven, what: str) -> Event:
        """An event that the log has. what: it is called in messages. Raises DoesNotHold."""
        raw = proven.line.encode()
        leaf = merkle.leaf_hash(raw)
        line = read_line(raw)
        if msgspec.json.encode(line) != raw:
            raise DoesNotHold(f"the {what} at position {line.position} is not written as export lines are")
        if not all(0 <= number < len(self._nodes) for number in proven.proof):
            raise DoesNotHold(f"the proof of position {line.position} names a node that the file does not have")
        self._used.update(proven.proof)
        path = [self._nodes[number] for number in proven.proof]
        try:
            merkle.verify_inclusion(leaf, line.position - 1, self._checkpoint.size, path, self._checkpoint.root)
        except InvalidProof as problem:
            raise DoesNotHold(
                f"the {what} at position {line.position} is not in the log that the checkpoint seals: {problem}"
            ) from None
        if (line.program_id, line.log) != (str(self._program_id), "books"):
            raise DoesNotHold(f"the {what} at position {line.position} is not of the books of {self._document.program}")
        state = plain_json(bytes(line.state).decode())
        if not isinstance(state, dict):
            raise DoesNotHold(f"the {what} at position {line.position} has a state that is no object")
        return Event(line, state, leaf)


# --- that the entries are all there are ------------------------------------------------------------------


def _check_event(document: Document, issued: Event, closed: Event) -> None:
    """The file is about the statement that was issued, and the period is the one that was closed."""
    for field in ("affiliate_id", "period", "version"):
        same(f"the {field} of the file", getattr(document, field), "of the statement's event", issued.state[field])
    for field in ("period", "starts_at", "ends_at"):
        same(f"{field} of the statement's event", issued.state.get(field), "of the period", closed.state.get(field))
    made = sha256(document.statement.encode()).hexdigest()
    same("the hash of the statement", made, "of the statement's event", issued.state["hash"])


def _check_cut(lines: _Lines, document: Document, issued: Event, closed: Event) -> None:
    """The statement was made at the cut that its version has."""
    cut = closed
    if document.version > 1:
        if document.reissue_event is None:
            raise DoesNotHold(f"version {document.version} needs the event of its reissue")
        cut = lines.event(document.reissue_event, REISSUED, CALENDAR)
        for field in ("period", "version"):
            same(f"the {field} of the reissue", cut.state[field], "of the statement's event", issued.state[field])
    elif document.reissue_event is not None:
        raise DoesNotHold("version 1 is no reissue, and has the event of one")
    same("cut_position of the statement's event", issued.state["cut_position"], "by the cut", cut.line.position)


def _check_entries(document: Document, issued: Event, trees: Event, entries: list[Event]) -> list[Move]:
    """The entries are the affiliate's, and lead to the root that was recorded. Returns the lines they made."""
    for one, after in pairwise(entries):
        if one.line.position >= after.line.position:
            raise DoesNotHold(f"the entry at position {after.line.position} stands behind {one.line.position}")
    lines: list[Move] = []
    for entry in entries:
        made = list(moves(entry, document.affiliate_id))
        if not made:
            raise DoesNotHold(f"the event at position {entry.line.position} moved nothing of {document.affiliate_id}")
        lines += made
    state = trees.state
    if state["cut_position"] < issued.state["cut_position"]:
        raise DoesNotHold(
            f"the affiliates' trees were recorded up to position {state['cut_position']}, and the statement"
            f" goes up to {issued.state['cut_position']}"
        )
    if entries and entries[-1].line.position > state["cut_position"]:
        raise DoesNotHold(f"the entry at position {entries[-1].line.position} is behind the recorded cut")
    leaf = affiliate_leaf(document.affiliate_id, len(entries), merkle.root_of(entry.leaf for entry in entries))
    path = [notes.from_base64(text) for text in document.tree.proof]
    root = bytes.fromhex(state["root"])
    try:
        merkle.verify_inclusion(leaf, document.tree.index, state["affiliate_count"], path, root)
    except InvalidProof as problem:
        raise DoesNotHold(
            f"these {len(entries)} entries are not the complete list that was recorded for {document.affiliate_id}"
            f" at position {trees.line.position}: {problem}"
        ) from None
    return lines


# --- that the statement follows from them ----------------------------------------------------------------


def _check_previous(lines: _Lines, document: Document, issued: Event) -> Cut | None:
    """The cut of the statement before, which closed with what this one opens with."""
    if document.previous_statement_event is None:
        return None
    previous = lines.read(document.previous_statement_event, ISSUED)
    state = previous.state
    lines.must_be(previous, ISSUED, f"statement:{document.affiliate_id}/{state.get('period')}")
    before, starts_at = cut_of(previous), issued.state.get("starts_at")
    is_earlier = starts_at is not None and before.ends_at <= datetime.fromisoformat(starts_at)
    if not is_earlier or before.position >= issued.state["cut_position"]:
        raise DoesNotHold(f"the statement of {state['period']} is not of an earlier period")
    opening = {section["currency"]: section["opening"] for section in issued.state["sections"]}
    for section in state["sections"]:
        now = opening.get(section["currency"], {})
        for bucket, amount in section["closing"].items():
            what = f"the opening {section['currency']} {bucket}"
            same(what, now.get(bucket), f"by the statement of {state['period']}", amount)
    return before
