"""What a simulation found, for people."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import click

from ledger.cli.common import major, print_table
from ledger.domain.money import round_half_up
from ledger.simulating.reasons import in_words


def print_report(document: dict[str, Any], every: bool = False) -> None:
    """A report for people. every: also the affiliates whose figures stay the same."""
    _print_tried(document)
    affiliates = [one for one in document["affiliates"] if every or _differs(one)]
    rows = [_row(one["affiliate_id"], one) for one in affiliates]
    rows += [_row("all", one, _percent(one)) for one in document["totals"]]
    headings = ("affiliate", "conversions", "would be", "commission", "would be", "difference", "", "percent", "why")
    print_table(headings, rows, (1, 2, 3, 4, 5, 7))
    if hidden := len(document["affiliates"]) - len(affiliates):
        click.echo(f"{hidden:,} more whose figures stay the same (--all lists them)")
    if document["orders"]:
        click.echo(f"\nthe first {len(document['orders'])} orders that differ:")
        for one in document["orders"]:
            click.echo(f"  {one['order_id']}: {one['sentence']}")


def _print_tried(document: dict[str, Any]) -> None:
    sales = document["conversions"]
    tried = f"terms {document['terms_hash'][:12]}…" if document["terms_hash"] else "the terms in force"
    own = ((document["terms"] or {}).get("plan") or {}).get("attribution", {}).get("model", "last_click")
    model = document["model"] or f"{own} (the terms' own)"
    click.echo(f"offer {document['offer_id']}: {tried}, attribution {model}, as of position {document['as_of']:,}")
    for said, name in (("from", "from"), ("before", "to")):
        if document[name] is not None:
            click.echo(f"sales {said} {document[name]:%Y-%m-%d %H:%M:%S} UTC" if isinstance(document[name], datetime)
                       else f"sales {said} {document[name]}")  # fmt: skip
    click.echo(
        f"{sales['seen']:,} conversions, {sales['decided']:,} decided by it, {sales['differing']:,} differ;"
        f" credited to nobody {sales['unattributed_was']:,}, would be {sales['unattributed_would']:,}"
    )
    if sales["exceptions"]:
        several = ", ".join(f"{kind} {count:,}" for kind, count in sorted(sales["exceptions"].items()))
        click.echo(f"would be kept as exceptions, and earn nothing: {several}")
    if earlier := sales.get("over_earlier", 0):
        click.echo(
            f"warning: {earlier:,} orders would lose what an earlier simulation gave them and two people decided;"
            " --from and --to can leave them out, and only --over-earlier proposes it like this"
        )
    click.echo("")


def _differs(one: dict[str, Any]) -> bool:
    return bool(one["reasons"]) or one["difference"] != 0 or one["conversions_was"] != one["conversions_would"]


def _percent(one: dict[str, Any]) -> str:
    """The difference as a part of what was, with one decimal."""
    if not one["commission_was"]:
        return ""
    tenths = round_half_up(1000 * abs(one["difference"]), abs(one["commission_was"]))
    sign = "-" if one["difference"] < 0 else "+" if one["difference"] else ""
    return f"{sign}{tenths // 10:,}.{tenths % 10} %"


def _row(name: str, one: dict[str, Any], percent: str = "") -> Sequence[str]:
    currency = one["currency"]
    why = ", ".join(
        f"{in_words(reason)} {major(said['amount'], currency)} ({said['count']:,})"
        for reason, said in one["reasons"].items()
    )
    return (
        name, f"{one['conversions_was']:,}", f"{one['conversions_would']:,}", major(one["commission_was"], currency),
        major(one["commission_would"], currency), major(one["difference"], currency), currency, percent, why,
    )  # fmt: skip
