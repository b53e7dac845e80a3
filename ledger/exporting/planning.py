"""What an export will hold: decided once, of what is sealed."""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID

from ledger.application import CommissionLedger
from ledger.audit import directory as names
from ledger.audit import notes, tree
from ledger.audit.directory import Manifest
from ledger.audit.exporting_place import ExportRefused, Place, Plan, sizes_of
from ledger.domain.errors import InvalidInput
from ledger.exporting.reading import reading
from ledger.store.log import Rows, currency_of, last_position, position_at


class Asked(NamedTuple):
    """Whose logs, in which form, how far. sealed: only what a checkpoint vouches for."""

    ledger: CommissionLedger
    program: str
    segments: str
    until: int | None
    sealed: bool


def make_plan(asked: Asked, place: Place) -> Plan:
    """What the directory will hold; of an unfinished export what it was to hold, unless more is asked for.
    Raises ExportRefused, InvalidInput."""
    with reading(asked.ledger, asked.program) as (cur, id_):
        begun = place.plan or place.manifest
        if begun is not None:
            theirs = (begun.program_id, begun.segments, begun.sealed)
            if theirs != (str(id_), asked.segments, asked.sealed):
                form = f"{begun.segments}{'' if begun.sealed else ', unsealed'}"
                raise ExportRefused(
                    f"{place.root} holds an export of {begun.program} ({form}): another one goes into another directory"
                )
        if place.plan is not None and asked.until in (None, place.plan.sizes["books"]):
            return place.plan
        fresh = _fresh_plan(asked, cur, id_)
    before = place.plan.sizes if place.plan else sizes_of(place.manifest) if place.manifest else {}
    for log, size in before.items():
        if fresh.sizes[log] < size:
            raise ExportRefused(
                f"{place.root} holds an export of {log} up to position {size}: one that ends before, at"
                f" {fresh.sizes[log]}, goes into another directory"
            )
    return fresh


def is_of(manifest: Manifest, plan: Plan) -> bool:
    """Whether a finished export is what a plan wants."""
    there = {log: end.checkpoint_size for log, end in manifest.logs.items()}
    return sizes_of(manifest) == plan.sizes and there == {log: checkpoint_size(plan, log) for log in names.LOGS}


def checkpoint_size(plan: Plan, log: str) -> int:
    """The size that a log's checkpoint is of; 0: it has none."""
    note = plan.notes.get(log)
    return notes.read_checkpoint(notes.read_note(note).text).size if note else 0


def _fresh_plan(asked: Asked, cur: Rows, id_: UUID) -> Plan:
    ends = {log: last_position(cur, id_, log) for log in names.LOGS}
    if asked.until is not None:
        if not 1 <= asked.until <= ends["books"]:
            raise InvalidInput("until", f"must be a position of the books: 1 to {ends['books']}")
        ends = {"books": asked.until, "traffic": _traffic_by(cur, id_, asked.until)}
    sealed: dict[str, str] = {}
    keys: list[str] = []
    for log in names.LOGS if asked.sealed else ():
        checkpoint = tree.newest_checkpoint(cur, id_, log)
        if checkpoint is None and ends[log]:
            raise ExportRefused(f"{log} was never sealed: {_hint(asked.program)}")
        if checkpoint is None:
            continue
        if asked.until is None:
            ends[log] = min(ends[log], checkpoint.size)
        if ends[log] > checkpoint.size:
            raise ExportRefused(
                f"{log} is sealed up to position {checkpoint.size}, not to {ends[log]}: {_hint(asked.program)}"
            )
        if ends[log]:
            sealed[log] = tree.published_note(cur, id_, log, checkpoint)
            of_log = [key for key in tree.sealing_keys(cur, id_, log) if key.first_size <= checkpoint.size]
            keys += [f"{one.line()}\n" for one in of_log]
    return Plan(
        segments=asked.segments,
        program=asked.program,
        program_id=str(id_),
        currency=currency_of(cur, id_),
        exported_at=asked.ledger.clock(),
        sealed=asked.sealed,
        sizes=ends,
        notes=sealed,
        keys="".join(keys),
    )


def _hint(program: str) -> str:
    return f"run `ledger seal --program {program}` first, or export with --unsealed what nothing vouches for"


def _traffic_by(cur: Rows, id_: UUID, position: int) -> int:
    """The last click recorded by the time of a position of the books."""
    cur.execute("SELECT recorded_at FROM book_events WHERE program_id = %s AND position = %s", (id_, position))
    row = cur.fetchone()
    if row is None:
        raise ExportRefused(f"books, position {position}: there is no such event in the log: it was taken away")
    return position_at(cur, id_, "traffic", row[0])
