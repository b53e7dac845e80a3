"""Verbs about what is earned beside sales: clicks, and goals."""

from __future__ import annotations

from datetime import datetime

import click

from ledger import goals as goals_
from ledger import paying_clicks, reads
from ledger.cli.common import (
    Instant,
    Ticker,
    json_option,
    major,
    meta,
    operator_option,
    print_json,
    print_table,
    program_option,
)
from ledger.domain.errors import NotFound
from ledger.goals import GoalProgress
from ledger.service import open_service
from ledger.store.log import last_position


@click.group()
def clicks() -> None:
    """Pay for clicks, where an offer's plan does."""


@clicks.command("pay")
@program_option
@click.option(
    "--until", type=Instant(), metavar="INSTANT", help="Clicks that were recorded by then are paid. Default: now."
)
@operator_option
def clicks_pay(program: str, until: datetime | None, by: str | None) -> None:
    """Record the clicks that are not paid yet, of offers that pay per click: one conversion for each affiliate, offer,
    day and channel. The worker does so every hour. Safe to interrupt and to run again."""
    paid = 0
    with open_service() as service, Ticker("clicks") as ticker:
        with service.ledger.reading(program) as (cur, id_):
            last_position(cur, id_, "books")
        for step in paying_clicks.pay_clicks(service.ledger, program, until or service.ledger.clock(), meta(by)):
            paid = step.done
            ticker.show(paid, None)
    click.echo(f"{paid:,} clicks paid")


@click.command()
@click.argument("affiliate_id", metavar="AFFILIATE")
@program_option
@json_option
def goals(affiliate_id: str, program: str, as_json: bool) -> None:
    """Show how far AFFILIATE has come towards each goal that is set now, and the bonuses that were earned."""
    with open_service() as service, reads.reading(service.ledger, program) as look:
        last_position(look.cur, look.program_id, "books")
        found = goals_.progress(look, program, affiliate_id, service.ledger.clock())
    if found is None:
        raise NotFound(f"affiliate {affiliate_id} does not exist")
    if as_json:
        print_json(found)
        return
    headings = ("offer", "goal", "period", "by", "counted", "target", "%", "bonus", "earned as")
    print_table(headings, [_row(one) for one in found], (4, 5, 6, 7))


def _row(one: GoalProgress) -> tuple[str, ...]:
    def said(value: int) -> str:
        return f"{value:,}" if one.by == "conversions" else f"{major(value, one.currency)} {one.currency}"

    bonus = f"{major(one.bonus_amount, one.currency)} {one.currency}" if one.bonus_amount else ""
    earned = f"{one.bonus.order_id} ({one.bonus.status})" if one.bonus else ""
    return (
        one.offer_id,
        one.goal,
        one.period,
        one.by,
        said(one.counted),
        said(one.target),
        str(one.percent),
        bonus,
        earned,
    )


COMMANDS = (clicks, goals)
