"""What whoever wrote a plan probably meant: a word more on the mistakes that are made most."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Any

from ledger.domain.countries import COUNTRIES
from ledger.domain.plans.plan_shape import Mistake

_RATE_WORDS = ("percent", "percentage", "pct", "rate", "rate_percent", "bps")
_OF_TERMS = ("hold_days", "window_days", "effective_from")
_UNKNOWN = "is not known here"
_MOST_PERCENT = 1000  # a rate is at most 100,000 basis points
_COUNTRY_WORDS = {
    "UK": "GB", "EL": "GR", "AUSTRIA": "AT", "CANADA": "CA", "FRANCE": "FR", "GERMANY": "DE", "DEUTSCHLAND": "DE",
    "GREAT BRITAIN": "GB", "ITALY": "IT", "NETHERLANDS": "NL", "POLAND": "PL", "SPAIN": "ES", "SWITZERLAND": "CH",
    "UNITED KINGDOM": "GB", "UNITED STATES": "US", "USA": "US",
}  # fmt: skip


def not_a_plan(document: Any) -> str:
    """What a document is that was taken for a plan, '' if that cannot be told."""
    if isinstance(document, dict) and isinstance(document.get("plan"), dict):
        return "is a document of terms: the plan is its member plan"
    return ""


def with_hints(found: Iterable[Mistake], document: Any) -> Iterator[Mistake]:
    """The mistakes of a document's shape, some of them in other words; of wrong weights one instead of three."""
    weights_told = False
    for mistake in found:
        owner, _, name = mistake.pointer.rpartition("/")
        value = _value(document, mistake.pointer)
        if owner == "/attribution/weights" and isinstance(value, float):
            if not weights_told:
                yield Mistake(owner, "must be whole numbers such as [40, 20, 40]")
            weights_told = True
        elif mistake.message.startswith(_UNKNOWN):
            yield mistake._replace(message=_unknown(name, value) or mistake.message)
        elif name == "rate_bps" and _is_no_integer(value) and (meant := _percent(value)):
            yield mistake._replace(message=f"{mistake.message}; it is in basis points: {meant}")
        else:
            yield mistake


def country(said: str) -> str:
    """What is wrong with a country of a rule, '' for nothing."""
    if said in COUNTRIES:
        return ""
    upper = said.upper()
    meant = upper if upper in COUNTRIES else _COUNTRY_WORDS.get(upper)
    hint = f'; did you mean "{meant}"?' if meant else ""
    return f"must be the two letters of a country, upper case (ISO 3166), such as DE{hint}"


def _unknown(name: str, value: Any) -> str:
    if name in _OF_TERMS:
        return f"belongs to the terms (--{name.replace('_', '-')}, or {name} beside the plan), not to the plan"
    if name in _RATE_WORDS:
        meant = _percent(value) or "12 % is 1200"
        return f'{_UNKNOWN}; did you mean "rate_bps"? It is in basis points: {meant}'
    return ""


def _is_no_integer(value: Any) -> bool:
    """One in quotes may have been meant as it stands."""
    return isinstance(value, float) or (isinstance(value, str) and not value.isdecimal())


def _percent(value: Any) -> str:
    """'5.5 % is 550', of a number that may have been meant as percent; '' of any other."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return ""
    text = str(value).strip().removesuffix("%").strip()
    if not re.fullmatch(r"\d{1,4}(\.\d{1,4})?", text, re.ASCII):
        return ""
    said = Decimal(text)
    if not 0 < said <= _MOST_PERCENT or (isinstance(value, float) and said == _MOST_PERCENT):
        return ""
    parts = []
    if said < 1:  # a fraction: as it stands, and as what it is of one
        parts.append(said * 100)
    parts.append(said)
    whole = [f"{one.normalize():f} % is {int(one * 100)}" for one in parts if one * 100 == int(one * 100)]
    return ", ".join(whole) or "5.5 % is 550"


def _value(document: Any, pointer: str) -> Any:
    """What stands at a pointer, None for nothing."""
    value = document
    for part in pointer.split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        if isinstance(value, dict):
            value = value.get(name)
        elif isinstance(value, list) and name.isdecimal() and int(name) < len(value):
            value = value[int(name)]
        else:
            return None
    return value
