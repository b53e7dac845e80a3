"""Verbs that list what there is: programs, affiliates, offers, exceptions, receivables, notices."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import click
import msgspec

from ledger import reads
from ledger.cli.common import (
    json_option,
    local_day,
    major,
    meta,
    operator_option,
    print_json,
    print_table,
    program_option,
)
from ledger.domain import offer, program
from ledger.domain.exceptions import ExceptionState
from ledger.domain.notice import NoticeState
from ledger.domain.offer import OfferState
from ledger.domain.program import ProgramState
from ledger.mail import transport_from
from ledger.notice_texts import LANGUAGES
from ledger.notices import send_due
from ledger.projections import decisions
from ledger.projections import programs as openings
from ledger.projections import receivables as debts
from ledger.reads import Found
from ledger.service import open_service
from ledger.store.log import last_position

PAGE = 500


def _every(look: reads.Look, kind: str, **filters: str | None) -> Iterator[Found]:
    """All records of a kind, a few at a time. Raises UnknownProgram."""
    last_position(look.cur, look.program_id, "books")
    after = ""
    while found := look.records(kind, after, PAGE, **filters):
        yield from found
        after = found[-1].record_id


@click.command()
@json_option
def programs(as_json: bool) -> None:
    """List the programs of this database."""
    found: list[dict[str, Any]] = []
    with open_service() as service:
        with service.pool.connection() as conn:
            opened: dict[str, datetime] = dict(
                conn.execute("SELECT program, opened_at FROM programs ORDER BY program").fetchall()
            )
        for name, opened_at in opened.items():
            with reads.reading(service.ledger, name) as look:
                record = look.record(program.key(name))
            assert record is not None
            state: ProgramState = record.state
            found.append(
                {
                    "program": name,
                    "currency": state.currency,
                    "zone": state.zone,
                    "opened_at": opened_at.astimezone(UTC),
                }
            )
    if as_json:
        print_json(found)
        return
    table = [(one["program"], one["currency"], one["zone"], f"{one['opened_at']:%Y-%m-%d %H:%M}") for one in found]
    print_table(("program", "currency", "zone", "opened (UTC)"), table)


@click.command()
@program_option
@click.option(
    "--status", type=click.Choice(["applied", "approved", "suspended", "closed"]), help="Only those in this status."
)
@click.option("--group", metavar="GROUP", help="Only those that are in this group now.")
@json_option
def affiliates(program: str, status: str | None, group: str | None, as_json: bool) -> None:
    """List affiliates. Names and addresses are personal and not shown."""
    with open_service() as service, reads.reading(service.ledger, program) as look:
        last_position(look.cur, look.program_id, "books")
        now = service.ledger.clock()
        found = [
            {
                "affiliate_id": one.record_id,
                "status": one.state.status,
                "group": one.state.group_at(now),
                "recruiter_id": one.state.recruiter_id,
                "position": one.position,
            }
            for one in look.affiliates(now, status=status, group=group)
        ]
    if as_json:
        print_json(found)
        return
    rows = [(one["affiliate_id"], one["status"], one["group"], one["recruiter_id"]) for one in found]
    print_table(("affiliate", "status", "group", "recruited by"), rows)


@click.command()
@program_option
@json_option
def offers(program: str, as_json: bool) -> None:
    """List offers with every version of their terms."""
    with open_service() as service, reads.reading(service.ledger, program) as look:
        states: list[OfferState] = [one.state for one in _every(look, "offer")]
        now = service.ledger.clock()
        keys = [offer.key(state.offer_id) for state in states]
        trails = decisions.of_records(look.cur, look.program_id, keys)
    if as_json:
        print_json(
            [
                msgspec.structs.asdict(state) | {"decisions": [one.document() for one in trails[key] if one.decision]}
                for key, state in zip(keys, states, strict=True)
            ]
        )
        return
    table: list[tuple[str, ...]] = []
    for key, state in zip(keys, states, strict=True):
        approved = {one.version: f"approved by {one.decided_by}" for one in trails[key] if one.decision == "approved"}
        for terms in state.terms:
            status = state.status_at(terms.version, now).replace("_", " ")
            who = approved.get(terms.version, "one person")
            table.append((state.offer_id, state.offer_name, str(terms.version), *_terms(terms), status, who))
        if state.proposed is not None:
            said = state.proposed.terms
            who = f"proposed by {state.proposed.proposed_by}"
            table.append((state.offer_id, state.offer_name, str(said.terms_version), *_terms(said), "waiting", who))
        if not state.terms and state.proposed is None:
            table.append((state.offer_id, state.offer_name, "-", "-", "-", "-", "-", "no terms", "-"))
    headings = ("offer", "name", "terms", "pays", "hold days", "window days", "sales from (UTC)", "status", "by")
    print_table(headings, table, right=(2, 3, 4, 5))


def _terms(terms: Any) -> tuple[str, ...]:
    """terms: Terms or TermsPublished."""
    if terms.plan_hash is not None:
        pays = f"plan {terms.plan_hash[:12]}"
    elif terms.rate_bps is not None:
        pays = f"{terms.rate_bps // 100}.{terms.rate_bps % 100:02d} %"
    else:
        pays = f"{major(terms.amount, terms.currency)} {terms.currency}"
    starts = terms.effective_from.astimezone(UTC)
    since = f"{starts:%Y-%m-%d %H:%M}" if starts.year > 1 else "the beginning"
    return pays, str(terms.hold_days), str(terms.window_days), since


@click.command()
@program_option
@click.option("--status", type=click.Choice(["open", "resolved"]), default="open", show_default=True, help="Which.")
@click.option("--type", "type_", metavar="TYPE", help="Only those of a type, such as unknown_offer.")
@json_option
def exceptions(program: str, status: str, type_: str | None, as_json: bool) -> None:
    """List reports that could not be applied and wait for somebody."""
    found: list[dict[str, Any]] = []
    with open_service() as service, reads.reading(service.ledger, program) as look:
        for one in _every(look, "exception", status=status, type_=type_):
            state: ExceptionState = one.state
            raised = state.raised
            found.append(
                {
                    "exception_id": raised.exception_id,
                    "type": raised.type,
                    "status": "open" if state.open else "resolved",
                    "affiliate_id": raised.affiliate_id,
                    "detail": raised.detail,
                    "fact": raised.fact,
                    "position": one.position,
                }
            )
    if as_json:
        print_json(found)
        return
    table = [(one["exception_id"], one["type"], one["affiliate_id"] or "-", one["detail"]) for one in found]
    print_table(("exception", "type", "affiliate", "what is wrong"), table)


# --- receivables -------------------------------------------------------------------------------------------


@click.command()
@program_option
@json_option
def receivables(program: str, as_json: bool) -> None:
    """List what affiliates owe: payable balances below zero, since when, and how old they are in sum.

    What such an affiliate earns later is netted; it is paid out again once its balance is above zero.
    """
    with open_service() as service, service.ledger.reading(program) as (cur, id_):
        zone = openings.state(cur, id_, program).zone
        now = service.ledger.clock()
        found = list(debts.every(cur, id_, now))
        ageing = debts.ageing(cur, id_, now)
    if as_json:
        print_json({"items": [one._asdict() for one in found], "ageing": [one._asdict() for one in ageing]})
        return
    table = [
        (one.affiliate_id, one.currency, major(one.amount, one.currency), local_day(one.since, zone), f"{one.age_days}")
        for one in found
    ]
    print_table(("affiliate", "", "owes", "since", "days"), table, right=(2, 4))
    if ageing:
        click.echo("")
        sums = [(a.currency, f"{a.age} days", f"{a.receivable_count:,}", major(a.amount, a.currency)) for a in ageing]
        print_table(("", "age", "count", "sum"), sums, right=(2, 3))


# --- notices -----------------------------------------------------------------------------------------------


@click.group()
def notices() -> None:
    """Look after what affiliates are told by e-mail."""


@notices.command("send")
@program_option
@click.option("--language", type=click.Choice(sorted(LANGUAGES)), default="en", show_default=True, help="Of the text.")
@operator_option
def notices_send(program: str, language: str, by: str | None) -> int:
    """Send what is queued, by the mail server in LEDGER_SMTP_URL. Exit code 1 while the server takes nothing."""
    who = meta(by)
    transport = transport_from(os.environ)
    if transport is None:
        raise click.ClickException("set LEDGER_SMTP_URL and LEDGER_MAIL_FROM: no mail server is named")
    with open_service() as service:
        with reads.reading(service.ledger, program) as look:
            last_position(look.cur, look.program_id, "books")
        done = send_due(service.ledger, program, who, transport, language=language)
    click.echo(f"{done.sent:,} sent, {done.failed:,} failed")
    if done.stopped_by:
        click.echo(f"the mail server takes nothing just now ({done.stopped_by}); the rest stays queued", err=True)
    return 1 if done.stopped_by else 0


@notices.command("list")
@program_option
@click.option("--status", type=click.Choice(["queued", "sent", "failed"]), help="Only those in this status.")
@click.option("--affiliate", "affiliate_id", metavar="ID", help="Only this one's.")
@json_option
def notices_list(program: str, status: str | None, affiliate_id: str | None, as_json: bool) -> None:
    """List notices. Addresses are looked up when they are sent, and not shown."""
    found: list[dict[str, Any]] = []
    with open_service() as service, reads.reading(service.ledger, program) as look:
        for one in _every(look, "notice", status=status, affiliate_id=affiliate_id):
            state: NoticeState = one.state
            found.append(
                {
                    "notice_id": one.record_id,
                    "affiliate_id": state.queued.affiliate_id,
                    "template": state.queued.template,
                    "status": state.status,
                    "attempts": state.attempts,
                    "retry_at": state.retry_at,
                }
            )
    if as_json:
        print_json(found)
        return
    table = [
        (one["notice_id"], one["affiliate_id"], one["template"], one["status"], str(one["attempts"])) for one in found
    ]
    print_table(("notice", "affiliate", "tells", "status", "failures"), table, right=(4,))


COMMANDS = (programs, affiliates, offers, exceptions, receivables, notices)
