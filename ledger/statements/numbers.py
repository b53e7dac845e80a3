"""Amounts and dates as people of a language write them. Decimals are those of ISO 4217, not of CLDR: the two differ
for 13 currencies, and by CLDR alone LAK 99.99 would print as 100."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from zoneinfo import ZoneInfo

from babel import Locale
from babel.dates import format_date, format_skeleton, format_time
from babel.numbers import NumberPattern, format_decimal, parse_pattern

from ledger.domain.money import EXPONENTS

# In a table every date has the same width; English keeps the month's name because 3/4/2026 is two dates.
_TABLE_DATE = {"en": "medium", "de": "medium", "pt": "short", "ru": "short"}
MINUS = "\u2212"  # a hyphen is easily overlooked, and text may wrap after it


def decimals(currency: str) -> int:
    """Decimals of a currency's major unit by ISO 4217; 2 for a code it does not know."""
    return EXPONENTS.get(currency, 2)


@lru_cache
def _locale(language: str) -> Locale:
    return Locale.parse(language)


@lru_cache
def _pattern(language: str, places: int) -> NumberPattern:
    """The language's pattern of a number, with so many decimals."""
    pattern = parse_pattern(_locale(language).decimal_formats[None].pattern)
    pattern.frac_prec = (places, places)
    return pattern


def number(amount: int, currency: str, language: str, *, signed: bool = False) -> str:
    """Minor units as a number without its currency: 123450 EUR → '1,234.50'. signed: with a plus above zero."""
    places = decimals(currency)
    text: str = _pattern(language, places).apply(Decimal(amount).scaleb(-places), _locale(language))
    return f"+{text}" if signed and amount > 0 else text.replace("-", MINUS)


def money(amount: int, currency: str, language: str, *, signed: bool = False) -> str:
    """A number and its currency: 123450 EUR → '1.234,50 EUR' in German. The ISO code, because twenty countries have a
    dollar, and behind the number in every language, so that the digits of a column stand under each other."""
    return f"{number(amount, currency, language, signed=signed)}\u00a0{currency}"


def count(amount: int, language: str) -> str:
    """A whole number with the language's grouping."""
    return format_decimal(amount, locale=_locale(language))


def currency_name(currency: str, language: str) -> str:
    """'Euro (EUR)', or the code alone where the language has no name for it."""
    name = _locale(language).currencies.get(currency)
    return f"{name[:1].upper()}{name[1:]} ({currency})" if name else currency


def plural_category(amount: int, language: str) -> str:
    """CLDR's plural category of a number: 'one', 'few', 'many' or 'other'."""
    return str(_locale(language).plural_form(amount))


def excel_format(currency: str) -> str:
    """A spreadsheet's number format: separators come from the reader's program, decimals and the code from here."""
    places = decimals(currency)
    return "#,##0" + ("." + "0" * places if places else "") + f' "{currency}"'


@lru_cache(maxsize=4096)
def table_date(day: date, language: str) -> str:
    """A date of even width for tables: 'Mar 4, 2026', '04.03.2026', '04/03/2026'."""
    style = "dd/MM/y" if language == "pt" else _TABLE_DATE[language]
    return format_date(day, style, locale=_locale(language))


def long_date(day: date, language: str) -> str:
    """'March 4, 2026', '4. März 2026'."""
    return format_date(day, "long", locale=_locale(language))


def _month(period: str) -> date | None:
    try:
        return date.fromisoformat(f"{period}-01") if len(period) == 7 else None
    except ValueError:
        return None


def month_name(period: str, language: str) -> str:
    """'2026-03' → 'March 2026'; any other label as it is."""
    month = _month(period)
    return format_skeleton("yMMMM", month, locale=_locale(language)) if month else period


def short_month(period: str, language: str) -> tuple[str, str]:
    """'2026-03' → ('Mar', '2026'); any other label as it is, without a year."""
    month = _month(period)
    return (format_date(month, "LLL", locale=_locale(language)).rstrip("."), str(month.year)) if month else (period, "")


def local_day(instant: datetime, zone: ZoneInfo) -> date:
    """The calendar day of an instant in a zone."""
    return instant.astimezone(zone).date()


def span(starts_at: datetime | None, ends_at: datetime, zone: ZoneInfo, language: str) -> tuple[str, str]:
    """The first and the last day of a half-open period, '' for no start; with the time where a day is cut."""
    end = ends_at.astimezone(zone)
    start = starts_at.astimezone(zone) if starts_at else None
    whole_days = all(not (edge.hour or edge.minute or edge.second) for edge in (start, end) if edge)
    if whole_days:
        last = end.date() - timedelta(days=1)
        return (long_date(start.date(), language) if start else ""), long_date(last, language)
    return (_moment(start, language) if start else ""), _moment(end, language)


def _moment(instant: datetime, language: str) -> str:
    time = format_time(instant.timetz(), "short", tzinfo=instant.tzinfo, locale=_locale(language))
    return f"{long_date(instant.date(), language)}, {time}"
