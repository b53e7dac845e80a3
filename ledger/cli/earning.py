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
from ledger.goals import EarnedBonus, GoalProgress
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
def clicks_pay(program: str, until: datetime | None, by: str | None) -> int:
    """Record the clicks that are not paid yet, of offers that pay per click: one conversion for each affiliate, offer,
    day and channel. The worker does so every hour. Safe to interrupt and to run again. Exit code 1 if some could not be
    paid and are kept as exceptions."""
    paid = paying_clicks.Paid(0, 0)
    with open_service() as service, Ticker("clicks") as ticker:
        with service.ledger.reading(program) as (cur, id_):
            last_position(cur, id_, "books")
        for paid in paying_clicks.pay_clicks(service.ledger, program, until or service.ledger.clock(), meta(by)):
            ticker.show(paid.done + paid.kept, None)
    kept = f", {paid.kept:,} kept as exceptions (ledger exceptions)" if paid.kept else ""
    click.echo(f"{paid.done:,} {'click' if paid.done == 1 else 'clicks'} paid{kept}")
    return 1 if paid.kept else 0


@click.command()
@click.argument("affiliate_id", metavar="AFFILIATE", required=False)
@program_option
@click.option(
    "--at",
    type=Instant(),
    metavar="INSTANT",
    help="By the terms in force then, in the period in which it lies. Default: now.",
)
@json_option
def goals(affiliate_id: str | None, program: str, at: datetime | None, as_json: bool) -> None:
    """Show how far AFFILIATE has come towards each goal, and every bonus that it earned.

    Without AFFILIATE: how far each affiliate that has begun has come, the highest percentage first.
    """
    with open_service() as service, reads.reading(service.ledger, program) as look:
        last_position(look.cur, look.program_id, "books")
        when = at or service.ledger.clock()
        if affiliate_id is None:
            everybody = goals_.overview(look, program, when)
            if as_json:
                print_json(everybody)
            else:
                rows = [(one.affiliate_id, *_row(one)) for one in everybody]
                print_table(("affiliate", *HEADINGS), rows, (5, 6, 7, 8))
            return
        found = goals_.progress(look, program, affiliate_id, when)
        earned = goals_.earned(look, affiliate_id)
    if found is None:
        raise NotFound(f"affiliate {affiliate_id} does not exist")
    if as_json:
        print_json({"items": found, "earned": earned})
        return
    print_table(HEADINGS, [_row(one) for one in found], (4, 5, 6, 7))
    if earned:
        click.echo("\nbonuses earned")
        headings = ("offer", "goal", "period", "bonus", "status", "reached (UTC)", "order")
        print_table(headings, [_bonus(one) for one in earned], (3,))


HEADINGS = ("offer", "goal", "period", "by", "counted", "target", "%", "bonus", "earned as")


def _bonus(one: EarnedBonus) -> tuple[str, ...]:
    amount = f"{major(one.amount, one.currency)} {one.currency}"
    return one.offer_id, one.goal, one.period, amount, one.status, f"{one.occurred_at:%Y-%m-%d %H:%M}", one.order_id


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
