"""Statements for reading: found, proven against their hash, and with what a person needs beside them.

The lines are read from the books once, into a file without a name, while their hash is computed: a statement whose
lines no longer lead to the hash that was issued is never shown in part, and a reader who is slow, or a document that
goes through the lines twice, holds no connection.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from tempfile import SpooledTemporaryFile
from types import TracebackType
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
from msgspec import Struct

from ledger.application import CommissionLedger
from ledger.closing import head_of
from ledger.domain import affiliate
from ledger.domain.errors import InvalidInput, NotFound
from ledger.domain.ids import stream_id
from ledger.projections import periods, presented, programs
from ledger.projections.periods import Bounds, Cut, Issued
from ledger.projections.presented import PeriodFigures
from ledger.statements.document import StatementHead, StatementLine, digest, encoded
from ledger.statements.presentation import Presentation
from ledger.store import log
from ledger.store.database import allow_long
from ledger.store.log import Rows
from ledger.store.vault import Vault

MEMORY_MOST = 256 * 1024  # bytes of lines that are kept in memory; more go to a temporary file
LINES_AT_ONCE = 500  # encoded and decoded together
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(list[StatementLine]).decode


class StatementDiffers(Exception):
    """The lines in the books do not lead to the hash that was issued: somebody changed one of the two."""


class Found(NamedTuple):
    """An issued version of a statement, and the cut that it was made at."""

    head: StatementHead
    issued: Issued
    cut: Cut
    zone: str

    @property
    def hash(self) -> str:
        """SHA-256 of its canonical form, hex."""
        return self.issued.hash


class Lines:
    """Lines in a file without a name, in their order; gone when closed. Calling it reads them anew, flat in memory;
    one reader at a time."""

    def __init__(self) -> None:
        self._file = SpooledTemporaryFile(max_size=MEMORY_MOST)  # noqa: SIM115
        self.count = 0

    def fill(self, lines: Iterable[StatementLine]) -> Iterator[StatementLine]:
        """The same lines, kept as they pass."""
        chunk: list[StatementLine] = []
        for line in lines:
            chunk.append(line)
            if len(chunk) >= LINES_AT_ONCE:
                self._keep(chunk)
            yield line
        self._keep(chunk)

    def _keep(self, chunk: list[StatementLine]) -> None:
        # A line feed never stands inside of JSON as it is encoded here.
        self._file.write(_encode(chunk) + b"\n")
        self.count += len(chunk)
        chunk.clear()

    def __call__(self) -> Iterator[StatementLine]:
        """The lines, from the first on."""
        self._file.seek(0)
        for row in self._file:
            yield from _decode(row)

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def __enter__(self) -> Lines:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


# --- statements ------------------------------------------------------------------------------------------


def find_statement(
    ledger: CommissionLedger, program: str, affiliate_id: str, period: str, version: int | None = None
) -> Found:
    """A version of a statement, the newest unless said. Raises NotFound, UnknownProgram."""
    with ledger.reading(program) as (cur, id_):
        zone = programs.state(cur, id_, program).zone
        versions = periods.statements_of(cur, id_, affiliate_id, period)
        issued = next((one for one in versions if version in (None, one.version)), None)
        if issued is None:
            which = f"version {version} of a statement" if version and versions else "statement"
            raise NotFound(f"affiliate {affiliate_id} has no {which} for {period}")
        cut = periods.cut(cur, id_, period, issued.version)
    assert cut is not None
    return Found(head_of(program, zone, cut, affiliate_id, issued.sections), issued, cut, zone)


def read_lines(ledger: CommissionLedger, program: str, found: Found) -> Lines:
    """A statement's lines, proven: their hash is the one that was issued. Close them. Raises StatementDiffers."""
    lines = Lines()
    try:
        kept = lines.fill(_stored_lines(ledger, program, found, periods.bounds(found.cut)))
        made = digest(found.head, encoded(kept))
        if made != found.hash:
            raise StatementDiffers(
                f"the statement of {found.head.affiliate_id} for {found.head.period}, version {found.head.version},"
                f" has the hash {found.hash}, but its lines lead to {made}"
            )
    except BaseException:
        lines.close()
        raise
    return lines


def _stored_lines(ledger: CommissionLedger, program: str, found: Found, between: Bounds) -> Iterator[StatementLine]:
    with ledger.reading(program) as (cur, id_):
        allow_long(cur)
        yield from periods.lines_of(cur, id_, found.head.affiliate_id, between, found.cut.late_before)


def verify_statement(
    ledger: CommissionLedger, program: str, affiliate_id: str, period: str, version: int | None = None
) -> Found:
    """A statement whose lines lead to its hash. Raises NotFound, StatementDiffers."""
    found = find_statement(ledger, program, affiliate_id, period, version)
    read_lines(ledger, program, found).close()
    return found


def present(
    ledger: CommissionLedger, program: str, found: Found, language: str = "en", named: bool = False
) -> Presentation:
    """What a person reads beside the lines. named: with the affiliate's name, which is for itself and admins."""
    affiliate_id = found.head.affiliate_id
    with ledger.reading(program) as (cur, id_):
        name = _display_name(ledger, cur, id_, affiliate_id) if named else ""
        return Presentation(
            head=found.head,
            hash=found.hash,
            affiliate_name=name,
            disputes=presented.open_disputes(cur, id_, affiliate_id, found.head.period),
            payouts=presented.payouts_of(cur, id_, affiliate_id, found.cut, found.zone, ledger.clock()),
            year=presented.year(cur, id_, affiliate_id, found.cut, found.issued),
            language=language,
        )


def _display_name(ledger: CommissionLedger, cur: Rows, id_: UUID, affiliate_id: str) -> str:
    state: affiliate.AffiliateState | None = None
    stream = affiliate.key(affiliate_id)
    for event in log.select_streams(cur, id_, [stream_id(id_, stream)]):
        state = affiliate.fold(state, event.body)
    if state is None:
        return ""
    vault = Vault(cur, ledger.secrets, id_, ledger.clock())
    return vault.unseal(stream, stream, "display_name", state.display_name) or ""


class OpenStatement(NamedTuple):
    """A statement ready to be rendered: render(presentation, lines, format). Close the lines."""

    presentation: Presentation
    lines: Lines


def open_statement(
    ledger: CommissionLedger,
    program: str,
    affiliate_id: str,
    period: str,
    version: int | None = None,
    *,
    language: str = "en",
    named: bool = False,
) -> OpenStatement:
    """A statement, proven and ready to be rendered. Raises NotFound, StatementDiffers."""
    found = find_statement(ledger, program, affiliate_id, period, version)
    shown = present(ledger, program, found, language, named)
    return OpenStatement(shown, read_lines(ledger, program, found))


# --- two versions ----------------------------------------------------------------------------------------


class Change(Struct):
    """What a later version of a statement closes with otherwise, in minor units."""

    currency: str
    bucket: str
    before: int
    after: int


class Difference(NamedTuple):
    """Two versions of a statement. before: None where the affiliate had none yet. lines: those that were added."""

    before: Issued | None
    after: Issued
    changes: list[Change]
    lines: Lines


def compare_versions(
    ledger: CommissionLedger,
    program: str,
    affiliate_id: str,
    period: str,
    from_version: int | None = None,
    to_version: int | None = None,
) -> Difference:
    """What a version of a period changed on a statement: by default, the newest one to the one before it. A version
    that brought this affiliate nothing stands for the last one that did. Close the lines. Raises InvalidInput,
    NotFound."""
    with ledger.reading(program) as (cur, id_):
        newest = periods.cut(cur, id_, period)
    if newest is None:
        raise NotFound(f"period {period} is not closed")
    to_version = to_version or newest.version
    from_version = from_version or max(1, to_version - 1)
    if not 1 <= from_version <= to_version <= newest.version:
        raise InvalidInput("from", f"from and to must be versions of {period} in their order: 1 to {newest.version}")
    found = find_statement(ledger, program, affiliate_id, period)
    with ledger.reading(program) as (cur, id_):
        versions = periods.statements_of(cur, id_, affiliate_id, period)
    before = next((one for one in versions if one.version <= from_version), None)
    after = next((one for one in versions if one.version <= to_version), None)
    if after is None:
        raise NotFound(f"affiliate {affiliate_id} has no statement for {period} up to version {to_version}")
    lines = Lines()
    try:
        for _ in lines.fill(_lines_between(ledger, program, found, before, after)):
            pass
    except BaseException:
        lines.close()
        raise
    return Difference(before, after, _changes(before, after), lines)


def _lines_between(
    ledger: CommissionLedger, program: str, found: Found, before: Issued | None, after: Issued
) -> Iterator[StatementLine]:
    with ledger.reading(program) as (cur, id_):
        to = periods.cut(cur, id_, after.period, after.version)
        since = periods.cut(cur, id_, after.period, before.version) if before else None
    assert to is not None
    # What the earlier cut carried on happened behind the period's end, and so it is on neither version.
    between = periods.bounds(to) if since is None else Bounds(to.position, to.ends_at, since.position)
    yield from _stored_lines(ledger, program, found, between)


def _changes(before: Issued | None, after: Issued) -> list[Change]:
    was = (
        {s.currency: s.closing for s in before.sections} if before else {s.currency: s.opening for s in after.sections}
    )
    found = []
    for section in after.sections:
        for bucket in section.closing.__struct_fields__:
            then = getattr(was[section.currency], bucket) if section.currency in was else 0
            now = getattr(section.closing, bucket)
            if then != now:
                found.append(Change(section.currency, bucket, then, now))
    return found


# --- periods ---------------------------------------------------------------------------------------------


def period_document(figures: PeriodFigures) -> dict[str, Any]:
    """A period as it is shown. Amounts: minor units, above zero owed or paid; movement: closing less opening."""
    cut, issued = figures.cut, figures.issued
    totals = issued.totals if issued else []
    return {
        "period": cut.period,
        "version": cut.version,
        "status": cut.status,
        "starts_at": cut.starts_at,
        "ends_at": cut.ends_at,
        "closed_at": cut.closed_at,
        "cut_position": cut.position,
        "statement_count": cut.statement_count,
        "line_count": cut.line_count,
        "late_count": figures.late_count,
        "digest": issued.digest if issued else "",
        "totals": [
            {
                "currency": one.currency,
                "bucket": one.bucket,
                "opening": one.opening,
                "movement": one.closing - one.opening,
                "closing": one.closing,
            }
            for one in totals
        ],
        "position": figures.position,
    }


def find_period(ledger: CommissionLedger, program: str, period: str, version: int | None = None) -> PeriodFigures:
    """A version of a closed period, the newest unless said. Raises NotFound."""
    with ledger.reading(program) as (cur, id_):
        figures = presented.period_figures(cur, id_, period, version)
    if figures is None:
        raise NotFound(f"period {period} is not closed" if version is None else f"{period} has no version {version}")
    return figures
