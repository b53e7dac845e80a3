"""The verb that says what one imaginary sale would earn."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click

from ledger import reads
from ledger.cli.common import Instant, json_option, major, note, print_json
from ledger.cli.explaining import show
from ledger.cli.plans import plan_, read_plan
from ledger.domain import affiliate, money, offer
from ledger.domain.conversion import QUANTITY_MAX, Item
from ledger.domain.errors import InvalidInput, NotFound
from ledger.domain.ids import AMOUNT_MAX
from ledger.domain.offer import OfferState, Terms
from ledger.domain.plans.counting import Counter
from ledger.explaining.trying import ImaginarySale, Tried, attempt, terms_of
from ledger.service import open_service
from ledger.store.log import last_position

_COUNTED = ("conversions", "revenue", "commission", "clicks")
_OPTIONS = (
    click.option("--amount", required=True, metavar="AMOUNT", help="Of the sale, such as 500.00."),
    click.option("--currency", metavar="CODE", help="Of the sale. Default: the plan's, else the program's."),
    click.option("--program", "-p", metavar="ID", help="Where OFFER is. Without it FILE is meant, and no database."),
    click.option("--version", type=click.IntRange(1), help="Of the terms of OFFER. Default: those in force at --at."),
    click.option("--affiliate", "affiliate_id", default="someone", metavar="ID", help="Who is credited."),
    click.option("--group", default="", metavar="GROUP", help="The group that the affiliate is in."),
    click.option("--recruiter", "recruiter_id", default="", metavar="ID", help="Who recruited the affiliate."),
    click.option("--customer", type=click.Choice(["new", "returning"]), default="new", show_default=True),
    click.option("--first-sale", type=Instant(), metavar="INSTANT", help="Of a returning customer. Default: the day"
                 " before."),
    click.option("--sku", metavar="TEXT", help="Of the sale's one line."),
    click.option("--product", metavar="TEXT", help="Of the sale's one line."),
    click.option("--category", metavar="TEXT", help="Of the sale's one line."),
    click.option("--quantity", type=click.IntRange(1, QUANTITY_MAX), help="Of the sale's one line."),
    click.option("--country", metavar="CODE", help="Of the sale, such as DE."),
    click.option("--channel", metavar="TEXT", help="Of the sale."),
    click.option("--event", "event_id", metavar="TEXT", help="Of the sale, such as lead."),
    click.option("--coupon", metavar="CODE", help="Of the sale."),
    click.option("--clicks", type=click.IntRange(1, 1_000_000_000), help="Of a bundle of clicks."),
    click.option("--counted", default="", metavar="WHAT=N,…", help="Where the counters of tiers, caps and goals stand"
                 " before: conversions=9,revenue=300.00,commission=15.00,clicks=40. Default: at 0."),
    click.option("--rate", default="", metavar="RATE", help="Units of the plan's currency for one of the sale's."),
    click.option("--at", type=Instant(), metavar="INSTANT", help="When the sale occurs. Default: now."),
    click.option("--hold-days", type=click.IntRange(0, 3650), default=0, help="Of FILE: OFFER has its own."),
)  # fmt: skip


def _options(verb: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(_OPTIONS):
        verb = option(verb)
    return verb


@plan_.command("try")
@click.argument("what", metavar="FILE|OFFER")
@_options
@json_option
def plan_try(what: str, program: str | None, as_json: bool, **said: Any) -> int:
    """Say what one imaginary sale would earn by the plan in FILE, or (with --program) by the terms of OFFER.

    It is priced as real sales are, and nothing is recorded. The affiliate is credited with all of it; counters stand
    where --counted says. Exit code 1 if it could not be priced.
    """
    at: datetime = said["at"] or datetime.now(UTC)
    if program is None:
        terms, zone, currency, offer_id = _of_file(what, said)
    else:
        terms, zone, currency, offer_id = _of_offer(what, program, at, said)
    tried = attempt(_sale(said, at, currency, _paid_in(terms) or currency), terms, offer_id, zone)
    if as_json:
        print_json({"refused": tried.refused or None, "explanations": tried.explanations})
    else:
        _tell(tried)
    return 1 if tried.refused else 0


def _tell(tried: Tried) -> None:
    if tried.refused:
        note(f"it could not be priced: {tried.refused}")
    for one in tried.explanations:
        show(one)
    if len(tried.explanations) > 1:
        total: dict[str, int] = {}
        for explanation in tried.explanations:
            for commission in explanation.commissions:
                total[commission.currency] = total.get(commission.currency, 0) + commission.commission
        click.echo(f"\nin all: {', '.join(f'{major(amount, code)} {code}' for code, amount in total.items())}")


def _paid_in(terms: Terms) -> str | None:
    return terms.plan.plan.currency if terms.plan is not None else terms.currency


def _of_file(what: str, said: dict[str, Any]) -> tuple[Terms, str, str, str]:
    """(terms, zone, the sale's currency, offer id)"""
    file = Path(what)
    if not file.is_file():
        raise click.UsageError(f"there is no file {what}; of an offer say --program, too")
    if said["version"] is not None:
        raise click.UsageError("--version is of an offer's terms: say --program, too")
    terms = terms_of(read_plan(file, "nothing was tried"), said["hold_days"])
    currency = said["currency"] or _paid_in(terms)
    if currency is None:
        raise click.UsageError("the plan names no currency: say the sale's with --currency")
    return terms, "UTC", currency, file.stem


def _of_offer(offer_id: str, program: str, at: datetime, said: dict[str, Any]) -> tuple[Terms, str, str, str]:
    """The same of an offer; what is known of the affiliate is added to what was said."""
    with open_service() as service, reads.reading(service.ledger, program) as look:
        last_position(look.cur, look.program_id, "books")
        found = look.record(offer.key(offer_id))
        who = look.record(affiliate.key(said["affiliate_id"]))
        own = look.record(f"program:{program}")
    if found is None or own is None:
        raise NotFound(f"offer {offer_id} does not exist")
    state: OfferState = found.state
    version = said["version"]
    terms = state.terms_at(at) if version is None else state.any_version(version)
    if terms is None:
        which = f"no terms in force at {at:%Y-%m-%d}" if version is None else f"no version {version} of its terms"
        raise NotFound(f"offer {offer_id} has {which}")
    if who is not None:
        said["group"] = said["group"] or who.state.group_at(at)
        said["recruiter_id"] = said["recruiter_id"] or who.state.recruiter_at(at)
    return terms, own.state.zone, said["currency"] or _paid_in(terms) or own.state.currency, offer_id


def _sale(said: dict[str, Any], at: datetime, currency: str, paid_in: str) -> ImaginarySale:
    amount = money.minor_units("--amount", said["amount"], currency)
    if amount < 0:
        raise InvalidInput("--amount", "must be 0 or more")
    line = [said[name] for name in ("sku", "quantity", "product", "category")]
    sku, quantity, product, category = line
    items = [Item(sku or "", quantity or 1, amount, category, product)] if any(line) else []
    first = said["first_sale"] or at - timedelta(days=1)
    if first > at:
        raise InvalidInput("--first-sale", "must not be after the sale")
    return ImaginarySale(
        amount=amount,
        currency=currency,
        occurred_at=at,
        items=items,
        clicks=said["clicks"] or 0,
        first_sale_at=first if said["customer"] == "returning" or said["first_sale"] else None,
        counted=_counted(said["counted"], paid_in),
        **{
            name: said[name]
            for name in (
                "affiliate_id", "group", "recruiter_id", "event_id", "coupon", "country", "channel", "rate",
            )
        },
    )  # fmt: skip


def _counted(text: str, currency: str) -> Counter:
    """'conversions=9,revenue=300.00'; money in major units of the plan's currency."""
    found = dict.fromkeys(_COUNTED, 0)
    for part in filter(None, text.split(",")):
        name, _, number = part.strip().partition("=")
        if name not in found:
            raise InvalidInput("--counted", f"must be of {', '.join(_COUNTED)}: {name!r} is none of these")
        if name in ("revenue", "commission"):
            found[name] = money.minor_units("--counted", number, currency)
        elif number.isdecimal() and int(number) <= AMOUNT_MAX:
            found[name] = int(number)
        else:
            raise InvalidInput("--counted", f"{name} must be a whole number")
    return Counter(found["conversions"], found["revenue"], found["commission"], found["conversions"], found["clicks"])


COMMANDS: tuple[click.Command, ...] = ()  # `try` belongs to `plan`
