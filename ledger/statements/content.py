"""A statement in words: what its HTML page and its PDF both say, as plain text. Nothing here is markup, so nothing an
affiliate or a shop named can become markup: each renderer escapes (HTML) or passes data (PDF)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date
from itertools import groupby
from zoneinfo import ZoneInfo

import msgspec
from msgspec import Struct

from ledger.domain.statement import Section
from ledger.statements import chart, numbers
from ledger.statements.document import BUCKETS, StatementHead
from ledger.statements.presentation import Lines, Movements, Presentation, change_of_owed, owed
from ledger.statements.words import (
    EVENTS,
    dispute_status,
    event_name,
    language_of,
    payout_status,
    place_name,
    plural,
    word,
)

_ORDER = {topic: place for place, topic in enumerate(EVENTS)}


class Column(Struct, frozen=True):
    """A column's heading. numeric: its cells are amounts or counts, set flush right; long: they may be long words
    without a space, and wrap anywhere."""

    label: str
    numeric: bool = False
    long: bool = False


class Row(Struct, frozen=True):
    """Cells, as many as columns. strong: an opening, closing or total."""

    cells: list[str]
    strong: bool = False


class Table(Struct, frozen=True, kw_only=True):
    """A table with its heading and a sentence below it ('' for none)."""

    title: str
    columns: list[Column]
    rows: list[Row]
    note: str = ""


class Year(Struct, frozen=True, kw_only=True):
    """A currency's chart, what it shows in words, and its numbers."""

    svg: str
    table: Table


class Content(Struct, frozen=True, kw_only=True):
    """All of a statement but its lines, in the order of reading."""

    language: str
    title: str
    subtitle: str
    program: str
    affiliate: str
    facts: list[tuple[str, str]]
    overview: Table
    sections: list[Table]
    payouts: Table
    disputes: Table | None
    years: list[Year]
    year_title: str
    lines: Table  # rows empty: lines are rendered one by one
    check_title: str
    check_how: str
    hash: str


def zone_of(head: StatementHead) -> ZoneInfo:
    """The zone in which the statement's days are counted."""
    return ZoneInfo(head.zone)


def period_name(period: str, language: str) -> str:
    """'2026-03' → 'March 2026', '2026-W10' → 'Week 10, 2026'; a custom period keeps its name."""
    week = re.fullmatch(r"(\d{4})-W(\d{2})", period)
    if week:
        return word("week", language, year=week[1], week=str(int(week[2])))
    return numbers.month_name(period, language)


def file_stem(head: StatementHead) -> str:
    """'statement-shop-mila-2026-03-v1': a file's name without its ending, in safe characters only."""
    name = f"statement-{head.program}-{head.affiliate_id}-{head.period}-v{head.version}"
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name)


def line_name(position: int, line_no: int) -> str:
    """What a line is called on every document and in a dispute's id: '41000.0'."""
    return f"{position}.{line_no}"


def facts(shown: Presentation) -> list[tuple[str, str]]:
    """Who and when: pairs of a label and a value."""
    head, language = shown.head, shown.language
    start, end = numbers.span(head.starts_at, head.ends_at, zone_of(head), language)
    days = word("from_to", language, start=start, end=end) if start else word("until", language, end=end)
    version = str(head.version)
    return [
        (word("affiliate", language), _with_id(shown.affiliate_name, head.affiliate_id)),
        (word("program", language), _with_id(shown.program_name, head.program)),
        (word("period", language), f"{period_name(head.period, language)} ({days})"),
        (word("zone", language), head.zone),
        (word("version", language), word("reissued", language, version=version) if head.version > 1 else version),
        (word("position", language), numbers.count(head.position, language)),
    ]


def _with_id(name: str, identifier: str) -> str:
    return f"{name} ({identifier})" if name and name != identifier else identifier


def overview(head: StatementHead, moved: Movements, language: str) -> Table:
    """A row a currency: opening + commission + other - paid = closing."""
    rows = []
    others = False
    for section in head.sections:
        amounts = overview_amounts(section, moved)
        others = others or amounts[2] != 0
        cells = [numbers.number(amount, section.currency, language) for amount in amounts]
        rows.append([section.currency, *cells])
    labels = ("owed_opening", "net_commission", "other_changes", "paid_in_period", "owed_closing", "payable_closing")
    columns = [Column(word("currency", language)), *(Column(word(label, language), True) for label in labels)]
    if not others:  # a column of zeros says nothing
        columns.pop(3)
        for row in rows:
            row.pop(3)
    note = word("overview_note", language)
    return Table(title=word("overview", language), columns=columns, rows=[Row(row) for row in rows], note=note)


def overview_amounts(section: Section, moved: Movements) -> tuple[int, int, int, int, int, int]:
    """(opening, net commission, other changes, paid, closing, payable at the end), minor units."""
    by_place = moved.moved.get(section.currency, {})
    opening, closing = owed(section.opening), owed(section.closing)
    commission, paid = -by_place.get("commission", 0), by_place.get("paid", 0)
    return opening, commission, closing - opening - commission + paid, paid, closing, section.closing.payable


def kinds_of(currency: str, moved: Movements) -> list[str]:
    """The topics that moved a currency, in the order of a commission's life."""
    topics = [topic for found, topic in moved.kinds if found == currency]
    return sorted(topics, key=lambda topic: (_ORDER.get(topic, len(_ORDER)), topic))


def _used_buckets(head: StatementHead, moved: Movements) -> list[str]:
    """The buckets that are not empty all the time in all currencies: one set, so that all tables line up."""
    edges = [edge for section in head.sections for edge in (section.opening, section.closing)]
    return [
        bucket
        for bucket in BUCKETS
        if any(getattr(edge, bucket) for edge in edges) or any(e.buckets[bucket] for e in moved.kinds.values())
    ] or ["payable"]


def _section(section: Section, moved: Movements, used: list[str], language: str) -> Table:
    """Opening, what each kind of line moved, closing: every column adds up."""
    kinds = {topic: moved.kinds[section.currency, topic] for topic in kinds_of(section.currency, moved)}
    columns = [Column(word("movement", language)), Column(word("count", language), True)]
    # Alone of all it is not a balance of this period: it has grown since the first payout
    labels = ("paid_in_all" if bucket == "paid" else bucket for bucket in used)
    columns += [Column(word(label, language), True) for label in labels]

    def edge(label: str, buckets: object) -> Row:
        amounts = [numbers.number(getattr(buckets, bucket), section.currency, language) for bucket in used]
        return Row([word(label, language), "", *amounts], strong=True)

    rows = [edge("opening", section.opening)]
    for topic, effect in kinds.items():
        changes = [
            numbers.number(effect.buckets[bucket], section.currency, language, signed=True)
            if effect.buckets[bucket]
            else ""
            for bucket in used
        ]
        rows.append(Row([event_name(topic, language), numbers.count(effect.count, language), *changes]))
    rows.append(edge("closing", section.closing))
    payable = section.closing.payable
    note = word("negative", language, amount=numbers.money(-payable, section.currency, language)) if payable < 0 else ""
    title = numbers.currency_name(section.currency, language)
    return Table(title=title, columns=columns, rows=rows, note=note)


def _payouts(shown: Presentation) -> Table:
    language = shown.language
    tax = any(payout.vat_amount or payout.withholding_amount for payout in shown.payouts)
    invoices = any(payout.invoice_number for payout in shown.payouts)
    columns = [Column(word(key, language), long=key == "payout") for key in ("initiated_on", "payout", "status")]
    columns += [Column(word("invoice", language))] if invoices else []
    notes = any(payout.credit_note_number for payout in shown.payouts)
    columns += [Column(word("credit_note", language))] if notes else []
    columns += [Column(word(key, language), True) for key in ("net", "vat", "withholding")] if tax else []
    columns += [Column(word("transferred", language), True)]
    rows = []
    for payout in shown.payouts:
        cells = [
            numbers.table_date(payout.initiated_on, language),
            payout.payout_id,
            payout_status(payout.status, language),
        ]
        cells += [payout.invoice_number] if invoices else []
        cells += [payout.credit_note_number] if notes else []
        if tax:
            parts = payout.amount, payout.vat_amount, -payout.withholding_amount
            cells += [numbers.number(part, payout.currency, language) if part else "" for part in parts]
        cells.append(numbers.money(payout.transferred, payout.currency, language))
        rows.append(Row(cells))
    note = "" if rows else word("no_payouts", language)
    return Table(title=word("payouts", language), columns=columns, rows=rows, note=note)


def _disputes(shown: Presentation, moved: Movements) -> Table | None:
    if not shown.disputes:
        return None
    language, zone = shown.language, zone_of(shown.head)
    columns = [Column(word(key, language), long=key == "reference") for key in ("line", "date", "what", "reference")]
    columns += [Column(word("amount", language), True), Column(word("status", language))]
    rows = []
    for dispute in shown.disputes:
        line = moved.disputed.get((dispute.position, dispute.line_no))
        cells = ["", word("elsewhere", language), "", ""]
        if line:
            cells = [
                numbers.table_date(numbers.local_day(line.effective_at, zone), language),
                event_name(line.event, language),
                line.reference,
                line_amount(line.source, line.target, line.amount, line.currency, language),
            ]
        name = line_name(dispute.position, dispute.line_no)
        rows.append(Row([name, *cells, dispute_status(dispute.status, language)]))
    return Table(title=word("disputes", language), columns=columns, rows=rows)


def _years(shown: Presentation) -> list[Year]:
    language, made = shown.language, []
    in_order = sorted(shown.year, key=lambda month: month.currency)  # stable: months stay in their order
    for currency, months_of in groupby(in_order, key=lambda month: month.currency):
        months = list(months_of)
        columns = [Column(word("month", language)), *(Column(word(k, language), True) for k in ("earned", "paid"))]
        totals = sum(m.earned for m in months), sum(m.paid for m in months)
        named = [(" ".join(numbers.short_month(m.period, language)).strip(), (m.earned, m.paid)) for m in months]
        rows = [
            Row([name, *(numbers.number(amount, currency, language) for amount in pair)], strong)
            for (name, pair), strong in (
                *((item, False) for item in named),
                ((word("total", language), totals), True),
            )
        ]
        title = word("chart_of", language, currency=currency)
        made.append(Year(svg=chart.svg(months, language), table=Table(title=title, columns=columns, rows=rows)))
    return made


def _lines_table(moved: Movements, language: str) -> Table:
    labels = (("line", False), ("date", False), ("what", False), ("reference", False), ("from_and_to", False))
    columns = [Column(word(key, language), numeric) for key, numeric in (*labels, ("amount", True))]
    if not moved.line_count:
        return Table(title=word("lines", language), columns=columns, rows=[], note=word("no_lines", language))
    notes = plural("lines", moved.line_count, language)
    if moved.late_count:
        notes += f", {plural('late_lines', moved.late_count, language)}. {word('late_note', language)}"
    else:
        notes += "."
    notes += " " + word("signs_note", language)
    return Table(title=word("lines", language), columns=columns, rows=[], note=notes)


def content(presentation: Presentation, moved: Movements) -> Content:
    """The statement in the presentation's language, without its lines."""
    shown = msgspec.structs.replace(presentation, language=language_of(presentation.language))
    head, language = shown.head, shown.language
    used = _used_buckets(head, moved)
    return Content(
        language=language,
        title=word("statement", language),
        subtitle=period_name(head.period, language),
        program=shown.program_name or head.program,
        affiliate=shown.affiliate_name or head.affiliate_id,
        facts=facts(shown),
        overview=overview(head, moved, language),
        sections=[_section(section, moved, used, language) for section in head.sections],
        payouts=_payouts(shown),
        disputes=_disputes(shown, moved),
        years=_years(shown),
        year_title=word("year", language),
        lines=_lines_table(moved, language),
        check_title=word("check", language),
        check_how=word("check_how", language, file=f"{file_stem(head)}.json"),
        hash=shown.hash,
    )


def line_amount(source: str, target: str, amount: int, currency: str, language: str) -> str:
    """A move's amount: with a sign where it comes from or goes to the program, without between two buckets."""
    change = 0 if source in BUCKETS and target in BUCKETS else change_of_owed(source, target, amount)
    return numbers.money(change or amount, currency, language, signed=change != 0)


class PrintedLine(Struct, frozen=True, array_like=True):
    """A line's cells; late: '' or how it is marked."""

    name: str
    date: str
    what: str
    late: str
    reference: str
    path: str
    amount: str


def printed_lines(head: StatementHead, lines: Lines, language: str) -> Iterator[PrintedLine]:
    """Each line as it is printed, in order, one at a time."""
    zone = zone_of(head)
    paths: dict[tuple[str, str], str] = {}
    names: dict[str, str] = {}
    for line in lines():
        ends = line.source, line.target
        if ends not in paths:
            paths[ends] = " → ".join(place_name(end, language) for end in ends)
        if line.event not in names:
            names[line.event] = event_name(line.event, language)
        late = ""
        if line.late:
            recorded = numbers.table_date(numbers.local_day(line.recorded_at, zone), language)
            late = word("late_mark", language, date=recorded)
        yield PrintedLine(
            line_name(line.position, line.line_no),
            numbers.table_date(numbers.local_day(line.effective_at, zone), language),
            names[line.event],
            late,
            line.reference,
            paths[ends],
            line_amount(line.source, line.target, line.amount, line.currency, language),
        )


def summed_lines(head: StatementHead, lines: Lines, language: str, most: int) -> tuple[str, list[PrintedLine]]:
    """The lines summed by day and kind, or by month where even that is more than `most` rows, and the heading's word.
    name holds the number of lines, late only the word."""
    zone = zone_of(head)
    by_day: dict[tuple[str, ...], list[int]] = {}
    for line in lines():
        day = numbers.local_day(line.effective_at, zone).isoformat()
        order = f"{_ORDER.get(line.event, len(_ORDER)):03}"
        key = day, line.currency, order, line.event, line.source, line.target, "late" if line.late else ""
        sums = by_day.setdefault(key, [0, 0])
        sums[0] += 1
        sums[1] += line.amount
    title = "by_day"
    if len(by_day) > most:
        title, by_day = "by_month", _by_month(by_day)
    printed = [_summed(key, sums, language) for key, sums in sorted(by_day.items())]
    return title, printed


def _by_month(by_day: dict[tuple[str, ...], list[int]]) -> dict[tuple[str, ...], list[int]]:
    by_month: dict[tuple[str, ...], list[int]] = {}
    for (day, *rest), (lines, amount) in by_day.items():
        sums = by_month.setdefault((day[:7], *rest), [0, 0])
        sums[0] += lines
        sums[1] += amount
    return by_month


def _summed(key: tuple[str, ...], sums: list[int], language: str) -> PrintedLine:
    day, currency, _, event, source, target, late = key
    when = numbers.month_name(day, language) if len(day) == 7 else numbers.table_date(date.fromisoformat(day), language)
    return PrintedLine(
        numbers.count(sums[0], language),
        when,
        event_name(event, language),
        word("late", language) if late else "",
        "",
        f"{place_name(source, language)} → {place_name(target, language)}",
        line_amount(source, target, sums[1], currency, language),
    )
