"""The verb that says why a sale's commissions are what they are."""

from __future__ import annotations

import click

from ledger import explanations, reads
from ledger.cli.common import json_option, major, note, print_json, print_table, program_option
from ledger.domain.errors import NotFound
from ledger.explaining.adding_up import mistakes
from ledger.explaining.data import Explanation
from ledger.service import open_service
from ledger.store.log import last_position

_WIDTH = 100


@click.command()
@click.argument("order_id", metavar="ORDER")
@program_option
@click.option("--affiliate", "affiliate_id", metavar="ID", default="", help="As this affiliate may read it.")
@json_option
def explain(order_id: str, program: str, affiliate_id: str, as_json: bool) -> int:
    """Say why each commission on ORDER is what it is, and what became of it.

    The figures are added up again from the evidence; exit code 1 if they do not lead to the commission.
    """
    with open_service() as service, reads.reading(service.ledger, program) as look:
        last_position(look.cur, look.program_id, "books")
        found = explanations.explanation_of(look, order_id, affiliate_id)
    if found is None:
        raise NotFound(f"order {order_id} does not exist")
    if affiliate_id and not found.commissions:
        raise NotFound(f"affiliate {affiliate_id} is not credited with order {order_id}")
    wrong = mistakes(found)
    for one in wrong:
        note(f"does not add up: {one}")
    if as_json:
        print_json(found)
    else:
        show(found)
    return 1 if wrong else 0


def show(found: Explanation) -> None:
    """The words, and a table of amounts."""
    for said in [one.sentence for one in found.commissions] or [found.sentence]:
        click.echo(click.wrap_text(said, _WIDTH) + "\n")
    table = [
        (
            one.affiliate_id,
            str(one.level),
            one.status,
            one.currency,
            *(major(amount, one.currency) for amount in (
                one.accrued, one.commission - one.accrued, -one.taken_back, one.outstanding,
            )),
        )
        for one in found.commissions
    ]  # fmt: skip
    if table:
        headings = ("affiliate", "level", "status", "", "accrued", "repriced", "taken back", "stands")
        print_table(headings, table, right=(4, 5, 6, 7))


COMMANDS = (explain,)
