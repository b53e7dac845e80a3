"""What was paid to each affiliate in a year: the data of a 1099-NEC or DAC7 report, as JSON and CSV.

What counts is the bank's booking day in the program's zone; a payout that came back is subtracted on the day it did.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import date, datetime
from typing import Any
from uuid import UUID

from msgspec import Struct

from ledger import sql
from ledger.domain import affiliate, tax
from ledger.domain.errors import InvalidInput
from ledger.domain.ids import stream_id
from ledger.domain.money import major_units
from ledger.domain.period import day_start
from ledger.domain.tax import TaxProfileState
from ledger.statements.csvfile import harmless
from ledger.store import log
from ledger.store.log import Rows

QUERIES = sql.load("ledger.projections", "tax_totals.sql")
QUARTERS = 4
_PROFILES_AT_ONCE = 1000
_ROWS_AT_ONCE = 500
# (subject, stream key, field, ciphertext) → text, as Vault.unseal
Unseal = Callable[[str, str, str, str], str | None]


class TaxAmounts(Struct):
    """Minor units. gross_amount: what the affiliate earned of it; + vat_amount - withholding_amount is what was
    transferred. payout_count: payouts the bank booked; returned_count: those that came back, whose amounts are
    subtracted."""

    payout_count: int = 0
    returned_count: int = 0
    gross_amount: int = 0
    vat_amount: int = 0
    withholding_amount: int = 0
    transferred_amount: int = 0


class TaxTotal(Struct):
    """An affiliate's year in one currency, and its quarters, 1 to 4. country and tax_status: of its newest tax
    profile, '' without one."""

    affiliate_id: str
    currency: str
    country: str
    tax_status: str
    total: TaxAmounts
    quarters: list[TaxAmounts]


def quarter_starts(year: int, zone: str) -> list[datetime]:
    """The first instants of a year's quarters, and of the next year. Raises InvalidInput."""
    if not 1900 <= year <= 9998:
        raise InvalidInput("year", "must be a year such as 2026")
    firsts = [date(year, 3 * quarter + 1, 1) for quarter in range(QUARTERS)]
    return [day_start(day, zone) for day in (*firsts, date(year + 1, 1, 1))]


def totals(cur: Rows, program_id: UUID, year: int, zone: str) -> list[TaxTotal]:
    """Every affiliate that was paid or sent money back in a year, in the order of ids and currencies. zone: the
    program's. Raises InvalidInput."""
    *starts, end = quarter_starts(year, zone)
    params = {"program_id": program_id, "starts": starts, "from": starts[0], "until": end}
    cur.execute(QUERIES["select_tax_totals"], params)
    found: dict[tuple[str, str], TaxTotal] = {}
    for affiliate_id, currency, quarter, paid, returned, gross, vat, withheld in cur:
        place = (affiliate_id, currency)
        if place not in found:
            empty = [TaxAmounts() for _ in range(QUARTERS)]
            found[place] = TaxTotal(affiliate_id, currency, "", "", TaxAmounts(), empty)
        amounts = TaxAmounts(paid, returned, gross, vat, withheld, gross + vat - withheld)
        found[place].quarters[quarter - 1] = amounts
        total = found[place].total
        for field in TaxAmounts.__struct_fields__:
            setattr(total, field, getattr(total, field) + getattr(amounts, field))
    made = [found[place] for place in sorted(found)]
    profiles = _profiles(cur, program_id, [one.affiliate_id for one in made])
    for one in made:
        if (profile := profiles.get(one.affiliate_id)) is not None:
            one.country, one.tax_status = profile.country, profile.tax_status
    return made


def _profiles(cur: Rows, program_id: UUID, affiliates: Iterable[str]) -> dict[str, TaxProfileState]:
    """Affiliate id → its newest tax profile."""
    ids = sorted(set(affiliates))
    found: dict[str, TaxProfileState] = {}
    for start in range(0, len(ids), _PROFILES_AT_ONCE):
        part = ids[start : start + _PROFILES_AT_ONCE]
        streams = [stream_id(program_id, tax.profile_key(one)) for one in part]
        for event in log.select_streams(cur, program_id, streams):
            state = tax.fold_profile(None, event.body)
            found[state.affiliate_id] = state
    return found


def tax_numbers(cur: Rows, program_id: UUID, unseal: Unseal, made: Sequence[TaxTotal]) -> dict[str, str]:
    """Affiliate id → its tax number in the clear; '' where none is known or it was erased."""
    found = {}
    for affiliate_id, profile in _profiles(cur, program_id, (one.affiliate_id for one in made)).items():
        field = tax.tax_number_field(profile.profile_version)
        stream = tax.profile_key(affiliate_id)
        found[affiliate_id] = unseal(affiliate.key(affiliate_id), stream, field, profile.tax_number) or ""
    return found


def csv_file(year: int, made: Sequence[TaxTotal], numbers: dict[str, str] | None = None) -> Iterator[bytes]:
    """The totals as CSV (RFC 4180, UTF-8), a row an affiliate and currency; amounts are decimal major units.

    numbers: affiliate id → tax number; None leaves that column out, for readers who may not see it.
    """
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\r\n")
    fields = TaxAmounts.__struct_fields__
    who = ["year", "affiliate_id", "country", "tax_status", *(["tax_number"] if numbers is not None else [])]
    quarters = [f"q{quarter}_{field}" for quarter in range(1, QUARTERS + 1) for field in fields]
    writer.writerow([*who, "currency", *fields, *quarters])
    for number, one in enumerate(made, 1):
        about: list[Any] = [year, harmless(one.affiliate_id), one.country, harmless(one.tax_status)]
        if numbers is not None:
            about.append(harmless(numbers.get(one.affiliate_id, "")))
        amounts = [cell for part in (one.total, *one.quarters) for cell in _cells(part, one.currency)]
        writer.writerow([*about, one.currency, *amounts])
        if number % _ROWS_AT_ONCE == 0:
            yield buffer.getvalue().encode()
            buffer.seek(0)
            buffer.truncate()
    yield buffer.getvalue().encode()


def _cells(amounts: TaxAmounts, currency: str) -> Iterator[Any]:
    for field in TaxAmounts.__struct_fields__:
        value = getattr(amounts, field)
        yield value if field.endswith("_count") else major_units(value, currency)
