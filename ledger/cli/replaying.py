"""Verbs that look back: what was believed at a point of the log, and what happened to a record since."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import click
import msgspec

from ledger import reads, timeline
from ledger.audit import comparing, replay, views
from ledger.audit.comparing import Difference, DoesNotAddUp, Moved
from ledger.audit.directory import NoExport
from ledger.audit.lines import UnreadableLine
from ledger.audit.replay import NotWhole
from ledger.audit.views import View
from ledger.cli.common import PositionOrInstant, json_option, major, print_json, print_table, program_option
from ledger.domain.errors import NotFound
from ledger.service import open_service
from ledger.timeline import BEGINNING, Entry

PAGE = 1000
SHOWN = 20  # lines of a list that a terminal shows; --json has all


def instant(at: datetime | str | None) -> str:
    """An instant for people, to the second."""
    if at is None:
        return "-"
    found = datetime.fromisoformat(at) if isinstance(at, str) else at
    return f"{found:%Y-%m-%d %H:%M:%S}"


def counted(number: int, noun: str) -> str:
    """1 movement, 2,000 movements."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


# --- replay ----------------------------------------------------------------------------------------------


@click.command("replay")
@click.option("--program", "-p", metavar="ID", help="The program whose books are meant.")
@click.option(
    "--export", "directory", type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Read an export's lines instead of a database.",
)  # fmt: skip
@click.option(
    "--until", type=PositionOrInstant(), required=True, help="The position or recorded instant that is meant."
)
@click.option("--compare", "other", type=PositionOrInstant(), help="Another one: explain what differs, event by event.")
@click.option("--affiliate", "affiliate_id", default="", metavar="ID", help="Only what concerns this affiliate.")
@json_option
def replay_verb(
    program: str | None,
    directory: Path | None,
    until: int | datetime,
    other: int | datetime | None,
    affiliate_id: str,
    as_json: bool,
) -> int:
    """What did we believe then: replay the log up to a point, by the auditor's own rules.

    Nothing is read but events: neither journal nor balances. With --compare every account that differs is explained by
    the events in between. Exit code 1 if the log has a gap, or the events do not add up.
    """
    if (program is None) == (directory is None):
        raise click.UsageError("give either --program or --export")
    try:
        with _events(program, directory) as events:
            if other is None:
                believed = views.believed(events, until, affiliate_id)
                _check_position("--until", until, believed)
                _show_view(believed, as_json)
            else:
                with comparing.compare(events, until, other, affiliate_id) as difference:
                    _check_position("--until", until, difference.after)
                    _check_position("--compare", other, difference.after)
                    _show_difference(difference, as_json)
    except (NotWhole, DoesNotAddUp, NoExport, UnreadableLine) as problem:
        raise click.ClickException(str(problem)) from None
    return 0


@contextmanager
def _events(program: str | None, directory: Path | None) -> Iterator[Iterator[replay.Event]]:
    if directory is not None:
        yield replay.from_directory(directory)
        return
    assert program is not None
    with open_service() as service, service.ledger.reading(program) as (cur, id_):
        yield replay.from_database(cur, id_)


def _check_position(option: str, asked: int | datetime, newest: View) -> None:
    """Raises click.BadParameter for a position that the log does not have yet."""
    if isinstance(asked, int) and asked > newest.position:
        says = f"there is no position {asked:,}: the log's last is {newest.position:,}"
        raise click.BadParameter(says, param_hint=option)


def _recorded(view: View) -> str:
    return "nothing was recorded by then" if view.recorded_at is None else f"recorded {instant(view.recorded_at)} UTC"


def _show_view(view: View, as_json: bool) -> None:
    if as_json:
        print_json(view)
        return
    of = f", of {view.affiliate_id} alone" if view.affiliate_id else ""
    click.echo(f"as believed after position {view.position:,}, {_recorded(view)}{of}")
    _heading("accounts (debits less credits)")
    rows = [(one.account, one.currency, major(one.amount, one.currency)) for one in view.accounts]
    rows += [("sum", currency, major(amount, currency)) for currency, amount in sorted(view.sums.items())]
    print_table(("account", "", "amount"), rows, right=(2,))
    _heading("owed to affiliates, and paid")
    buckets = ("pending", "held", "payable", "in_transit", "paid")
    owed = [
        (one.affiliate_id, one.currency, *(major(getattr(one, b), one.currency) for b in buckets)) for one in view.owed
    ]
    print_table(("affiliate", "", *(b.replace("_", " ") for b in buckets)), owed, right=range(2, 7))
    _heading("conversions")
    fields = ("amount", "commission", "reversed_amount", "reversed_commission")
    sold = [
        (one.status, one.currency, f"{one.count:,}", *(major(getattr(one, f), one.currency or "GBP") for f in fields))
        for one in view.conversions
    ]
    print_table(("status", "", "count", "sales", "commission", "reversed", "of it"), sold, right=range(2, 7))
    _heading("payouts")
    paid = [(one.status, one.currency, f"{one.count:,}", major(one.amount, one.currency)) for one in view.payouts]
    print_table(("status", "", "count", "transferred"), paid, right=(2, 3))
    _heading("other records")
    counted = [(one.kind.replace("_", " "), one.status.replace("_", " "), f"{one.count:,}") for one in view.records]
    print_table(("what", "status", "count"), counted, right=(2,))
    _heading("closed periods")
    print_table(
        ("period", "version", "status", "cut at"),
        [(one.period, str(one.version), one.status, f"{one.cut_position:,}") for one in view.periods],
        right=(1, 3),
    )
    _heading("open")
    still = [(one.kind, one.record_id, one.type, one.affiliate_id or "-", f"{one.since:,}") for one in view.open]
    print_table(("what", "which", "type", "affiliate", "since position"), still[:SHOWN], right=(4,))
    _rest(len(still))


def _heading(text: str) -> None:
    click.echo(f"\n{text}")


def _rest(count: int) -> None:
    if count > SHOWN:
        click.echo(f"… and {count - SHOWN:,} more; --json has all")


def _show_difference(difference: Difference, as_json: bool) -> None:
    if as_json:
        for piece in _json(difference):
            click.echo(piece, nl=False)
        click.echo()
        return
    before, after = difference.before, difference.after
    click.echo(f"from position {before.position:,} ({_recorded(before)})")
    click.echo(f"to position {after.position:,} ({_recorded(after)})")
    for moved in difference.accounts():
        _show_account(difference, moved)
    _heading("records that changed")
    became = [
        (one.kind.replace("_", " "), one.before or "(new)", one.after, f"{one.count:,}", _span(one))
        for one in difference.changes()
    ]
    print_table(("what", "from", "to", "count", "positions"), became, right=(3,))
    _heading("events in between")
    topics = [(one.topic, f"{one.count:,}", _span(one)) for one in difference.topics()]
    print_table(("topic", "count", "positions"), topics, right=(1,))


def _span(one: Any) -> str:
    first, last = one.first_position, one.last_position
    return f"{first:,}" if first == last else f"{first:,} to {last:,}"


def _show_account(difference: Difference, moved: Moved) -> None:
    amounts = [major(one, moved.currency) for one in (moved.before, moved.after, moved.change)]
    _heading(f"{moved.account} {moved.currency}: from {amounts[0]} to {amounts[1]}, {amounts[2]}")
    rows: list[tuple[str, ...]] = []
    for one in difference.events(moved.account, moved.currency):
        if len(rows) == SHOWN:
            break
        at, amount = instant(one.recorded_at), major(one.amount, moved.currency)
        rows.append((f"{one.position:,}", at, one.topic, one.actor, one.reference or "-", amount))
    print_table(("position", "recorded", "event", "by", "about", "amount"), rows, right=(0, 5))
    _rest(moved.event_count)
    adds = "adds" if moved.event_count == 1 else "add"
    click.echo(f"{counted(moved.event_count, 'movement')} {adds} up to {amounts[2]}")


_encode = msgspec.json.encode


def _json(difference: Difference) -> Iterator[str]:
    """The difference as one document, without holding its events."""
    yield '{"from":' + _encode(difference.before).decode() + ',"to":' + _encode(difference.after).decode()
    yield ',"accounts":['
    for number, moved in enumerate(difference.accounts()):
        yield ("," if number else "") + _encode(moved).decode()[:-1] + ',"events":['
        for n, one in enumerate(difference.events(moved.account, moved.currency)):
            yield ("," if n else "") + _encode(one).decode()
        yield "]}"
    became = [msgspec.to_builtins(one) | {"positions": difference.positions(one)} for one in difference.changes()]
    yield '],"records":' + _encode(became).decode() + ',"topics":' + _encode(difference.topics()).decode() + "}"


# --- timelines -------------------------------------------------------------------------------------------


@click.group("timeline")
def timeline_group() -> None:
    """What happened to an affiliate, a conversion or a payout, entry by entry."""


def _timeline(kind: str, argument: str, says: str) -> click.Command:
    @click.argument(argument)
    @program_option
    @json_option
    def verb(program: str, as_json: bool, **given: str) -> None:
        with open_service() as service, reads.reading(service.ledger, program) as look:
            entries = _READERS[kind](look, given[argument])
            if not entries:
                raise NotFound(f"{kind} {given[argument]} does not exist in program {program}")
        _show_entries(entries, as_json)

    verb.__doc__ = says
    return click.command(kind)(verb)


def _all_of_affiliate(look: reads.Look, affiliate_id: str) -> Sequence[Entry]:
    found: list[Entry] = []
    while some := timeline.of_affiliate(look, affiliate_id, found[-1].place if found else BEGINNING, PAGE):
        found += some
    return found


_READERS: dict[str, Callable[[reads.Look, str], Sequence[Entry]]] = {
    "affiliate": _all_of_affiliate,
    "conversion": timeline.of_conversion,
    "payout": timeline.of_payout,
}


def _show_entries(entries: Sequence[Entry], as_json: bool) -> None:
    if as_json:
        print_json(entries)
        return
    for one in entries:
        where = f"{one.position:,}" + ("" if one.log == "books" else " (traffic)")
        who = ", ".join(text for text in (one.actor, one.request_id, one.key_id and f"key {one.key_id}") if text)
        click.echo(f"{instant(one.recorded_at)}  {where:>9}  {one.sentence}")
        click.echo(f"{'':32}{one.topic} by {who}" + (f", because of {one.cause}" if one.cause else ""))
        for line in one.lines:
            amount = major(line["amount"], line["currency"])
            click.echo(f"{'':32}{line['debit']} ← {amount} {line['currency']} ← {line['credit']}")


timeline_group.add_command(_timeline("affiliate", "affiliate_id", "Everything that names AFFILIATE_ID."))
timeline_group.add_command(
    _timeline("conversion", "order_id", "ORDER_ID's click, events, reversals, statements and payouts.")
)
timeline_group.add_command(_timeline("payout", "payout_id", "PAYOUT_ID's events, its run's, its file and the bank's."))

COMMANDS = (replay_verb, timeline_group)
