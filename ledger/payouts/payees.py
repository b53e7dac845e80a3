"""A payee's details: what each payout method needs, how they are shown, and how two are compared without showing them.

The errors never repeat a value: bank details do not belong in a log.
"""

from __future__ import annotations

import hmac
import re
import unicodedata
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Any
from uuid import UUID

import msgspec
from schwifty import BIC, IBAN
from schwifty.exceptions import SchwiftyException

from ledger.domain.errors import InvalidInput
from ledger.domain.money import exponent
from ledger.payouts.orders import METHODS
from ledger.payouts.text import has_latin

# EPC409-09, "list of SEPA scheme countries": the countries whose IBANs the schemes reach. schwifty's own flag does not
# know Gibraltar, San Marino, the Vatican, nor those that joined in 2025 (Albania, Moldova, Montenegro, North
# Macedonia, Serbia).
_SEPA = (
    "AD AL AT BE BG CH CY CZ DE DK EE ES FI FR GB GI GR HR HU IE IS IT LI LT LU LV MC MD ME MK MT NL NO PL PT RO RS SE "
    "SI SK SM VA"
)
SEPA_COUNTRIES = frozenset(_SEPA.split())
# EPC409-09 as well: territories that have BICs of their own, but the IBANs of the country.
_TERRITORIES = {
    "FR": frozenset({"BL", "GF", "GP", "MF", "MQ", "PM", "RE", "YT"}),
    "GB": frozenset({"GG", "IM", "JE"}),
    "FI": frozenset({"AX"}),
}
# The currencies that PayPal pays out in, and those of them that it takes without decimals, whatever ISO 4217 says.
# Source: developer.paypal.com, "Currency codes".
_PAYPAL = "AUD BRL CAD CHF CNY CZK DKK EUR GBP HKD HUF ILS JPY MXN MYR NOK NZD PHP PLN SEK SGD THB TWD USD"
PAYPAL_CURRENCIES = frozenset(_PAYPAL.split())
PAYPAL_WHOLE = frozenset({"HUF", "JPY", "TWD"})

_IBAN = re.compile(r"[A-Z]{2}[0-9]{2}[A-Z0-9]{11,30}")
_BIC = re.compile(r"[A-Z0-9]{4}[A-Z]{2}[A-Z0-9]{2}(?:[A-Z0-9]{3})?")
# The first character is a letter, digit or '_': an address is never altered, so one that a spreadsheet would run
# as a formula is not accepted. No quotes, commas or semicolons for the same reason.
_EMAIL = re.compile(
    r"(?=.{3,127}$)[A-Za-z0-9_](?:[A-Za-z0-9.!#$%&'*+/=?^_{}~-]{0,62}[A-Za-z0-9!#$%&*+/=?^_{}~-])?"
    r"@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])"
)
_HIDDEN = "••••"


def check_details(method: str, fields: Mapping[str, str], currency: str) -> dict[str, str]:
    """The details of a payout method, normalised; fields that are empty are left out.

    Raises InvalidInput naming the field (details.iban) and what would be right, never the value.
    """
    if method not in _CHECKS:
        raise InvalidInput("method", f"must be one of {', '.join(METHODS)}")
    exponent("currency", currency)
    known, check = _CHECKS[method]
    given: dict[str, str] = {}
    for name, value in fields.items():
        if name not in known:
            raise InvalidInput("details", f"has an unknown field; {method} takes {', '.join(known)}")
        if not isinstance(value, str):
            raise InvalidInput(f"details.{name}", "must be text")
        if value.strip():
            given[name] = unicodedata.normalize("NFC", value.strip())
    return check(given, currency)


def _sepa(given: dict[str, str], currency: str) -> dict[str, str]:
    if currency != "EUR":
        raise InvalidInput("currency", "must be EUR for SEPA")
    found = {"name": _name(given), "iban": check_iban(given.get("iban", ""))}
    if found["iban"][:2] not in SEPA_COUNTRIES:
        raise InvalidInput("details.iban", "must be of a country in the SEPA zone")
    if not has_latin(found["name"]):
        raise InvalidInput("details.name", "must have letters that can be written in the Latin alphabet")
    if "bic" in given:
        found["bic"] = check_bic(given["bic"], found["iban"][:2])
    return found


def _paypal(given: dict[str, str], currency: str) -> dict[str, str]:
    if currency not in PAYPAL_CURRENCIES:
        raise InvalidInput("currency", f"must be one that PayPal pays: {', '.join(sorted(PAYPAL_CURRENCIES))}")
    return {"email": check_email(given.get("email", ""))}


def _wise(given: dict[str, str], currency: str) -> dict[str, str]:
    found = {"name": _name(given), "receiver_type": given.get("receiver_type", "PERSON").upper()}
    if found["receiver_type"] not in ("PERSON", "INSTITUTION"):
        raise InvalidInput("details.receiver_type", "must be PERSON or INSTITUTION")
    if "email" in given:
        found["email"] = check_email(given["email"])
    if "bsb_code" in given or "account_number" in given:
        if currency != "AUD":
            raise InvalidInput("details.bsb_code", "is for AUD only; give iban, or email alone")
        if "iban" in given:
            raise InvalidInput("details.iban", "must be left out beside bsb_code and account_number")
        return found | _bsb(given)
    if "iban" in given:
        return found | {"iban": check_iban(given["iban"])}
    if "email" not in found:
        what = "bsb_code and account_number" if currency == "AUD" else "iban"
        raise InvalidInput("details", f"must have {what}, or email so that Wise asks the payee for the account")
    return found


def _bsb(given: dict[str, str]) -> dict[str, str]:
    bsb = re.sub(r"[\s-]", "", given.get("bsb_code", ""))
    account = re.sub(r"[\s-]", "", given.get("account_number", ""))
    if not re.fullmatch(r"[0-9]{6}", bsb):
        raise InvalidInput("details.bsb_code", "must be 6 digits")
    if not re.fullmatch(r"[0-9]{4,9}", account):
        raise InvalidInput("details.account_number", "must be 4-9 digits")
    return {"bsb_code": f"{bsb[:3]}-{bsb[3:]}", "account_number": account}


def _manual(given: dict[str, str], _currency: str) -> dict[str, str]:
    instructions = "\n".join(line.strip() for line in given.get("instructions", "").splitlines())
    if not 1 <= len(instructions) <= 500 or not instructions.replace("\n", "").isprintable():
        raise InvalidInput("details.instructions", "must be 1-500 printable characters that say how to pay")
    return {"instructions": instructions}


_CHECKS: dict[str, tuple[tuple[str, ...], Callable[[dict[str, str], str], dict[str, str]]]] = {
    "sepa": (("name", "iban", "bic"), _sepa),
    "paypal": (("email",), _paypal),
    "wise": (("name", "receiver_type", "email", "iban", "bsb_code", "account_number"), _wise),
    "manual": (("instructions",), _manual),
}


def _name(given: dict[str, str]) -> str:
    name = " ".join(given.get("name", "").split())
    if not 1 <= len(name) <= 140 or not name.isprintable() or not any(c.isalnum() for c in name):
        raise InvalidInput("details.name", "must be the account holder's name, 1-140 printable characters")
    return name


def check_iban(value: str) -> str:
    """An IBAN, compact ('DE89370400440532013000'): country, length, format and check digits. Raises InvalidInput."""
    compact = re.sub(r"[\s-]", "", value).upper()
    try:
        if not _IBAN.fullmatch(compact):
            raise ValueError
        iban = IBAN(compact)
        if iban.is_aspirational:  # a country that has announced IBANs, but no bank pays to them
            raise ValueError
    except (SchwiftyException, ValueError):
        raise InvalidInput("details.iban", "must be an IBAN with right check digits") from None
    return str(iban.compact)


def check_bic(value: str, country: str) -> str:
    """A BIC of 8 or 11 characters, compact, of a bank in the IBAN's country. Raises InvalidInput."""
    compact = re.sub(r"\s", "", value).upper()
    try:
        if not _BIC.fullmatch(compact):
            raise ValueError
        bic = BIC(compact)
    except (SchwiftyException, ValueError):
        raise InvalidInput("details.bic", "must be a BIC of 8 or 11 characters") from None
    if bic.country_code != country and bic.country_code not in _TERRITORIES.get(country, ()):
        raise InvalidInput("details.bic", "must be of the same country as the IBAN")
    return str(bic.compact)


def check_email(value: str) -> str:
    """An e-mail address, its domain in small letters. Raises InvalidInput."""
    if not _EMAIL.fullmatch(value) or ".." in value:
        raise InvalidInput(
            "details.email", "must be an e-mail address of plain letters that begins with a letter, digit or _"
        )
    local, _, domain = value.rpartition("@")
    return f"{local}@{domain.lower()}"


def mask(method: str, details: Mapping[str, str]) -> dict[str, str]:
    """The details as people may see them: 'DE89 •••• 3000', 'a•••@example.com', 'A•••'. A BIC is the bank's."""
    if method not in METHODS:
        raise InvalidInput("method", f"must be one of {', '.join(METHODS)}")
    return {name: _MASKS.get(name, _hide)(value) for name, value in details.items()}


def _hide(_value: str) -> str:
    return _HIDDEN


def _mask_name(value: str) -> str:
    return value[:1] + "•••"


def _mask_email(value: str) -> str:
    local, at, domain = value.rpartition("@")
    return f"{local[:1] if len(local) > 1 else ''}•••@{domain}" if at else _HIDDEN


def _mask_iban(value: str) -> str:
    return f"{value[:4]} {_HIDDEN} {value[-4:]}" if len(value) >= 15 else _HIDDEN


def _mask_account(value: str) -> str:
    return f"{_HIDDEN} {value[-2:]}" if len(value) >= 6 else _HIDDEN


def _as_it_is(value: str) -> str:
    return value


# A field without a line here is hidden whole: a new one shows nothing until somebody decides.
_MASKS: dict[str, Callable[[str], str]] = {
    "name": _mask_name,
    "email": _mask_email,
    "iban": _mask_iban,
    "account_number": _mask_account,
    "bic": _as_it_is,
    "receiver_type": _as_it_is,
}


def fingerprint(program_id: UUID, method: str, details: Mapping[str, str], key: bytes) -> str:
    """64 hex digits: the same for the same details in the same program, and nothing to learn without the key.

    HMAC-SHA-256 over sorted JSON. details: as check_details gave them. Raises ValueError for a key under 16 bytes.
    """
    if len(key) < 16:  # account numbers are few enough to try them all: only the key protects them
        raise ValueError("the fingerprint key must have at least 16 bytes")
    filled: dict[str, Any] = {name: value for name, value in details.items() if value}
    text = msgspec.json.encode(["payee-1", program_id.hex, method, filled], order="sorted")
    return hmac.new(key, text, sha256).hexdigest()
