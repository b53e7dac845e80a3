"""Our accounts by the names of an accountant's chart: a TOML file, and defaults that each tool can read."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import NamedTuple

from ledger.domain.errors import InvalidInput
from ledger.domain.postings import ADJUSTMENT, BANK_FEE, BUCKETS, COMMISSION, PROGRAM_BANK, VAT, WITHHOLDING, owner

OPENING = "equity:opening"  # the other side of opening balances, where a form needs one (CSV)
_ALL_BUCKETS = "liability:{affiliate}:{bucket}"
_PAID = "asset:bank:{affiliate}"
KEYS = (
    *(f"liability:{{affiliate}}:{bucket}" for bucket in BUCKETS),
    _PAID, PROGRAM_BANK, COMMISSION, ADJUSTMENT, BANK_FEE, VAT, WITHHOLDING, OPENING,
)  # fmt: skip
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_SAMPLE = "a.b_C-1"


class Style(NamedTuple):
    """What a tool wants of accounts. defaults: by our keys; affiliate: an affiliate's id as a part of a name, two ids
    never the same; bucket: the same for pending, held, payable and in_transit; problem: what is wrong with a name."""

    defaults: Mapping[str, str]
    affiliate: Callable[[str], str]
    bucket: Callable[[str], str]
    problem: Callable[[str], str | None]


class Accounts:
    """Our account → the tool's. about: which mapping it is, for a journal's head."""

    def __init__(self, style: Style, mapping: Mapping[str, str] | None = None, about: str = "our defaults") -> None:
        """Raises InvalidInput naming the key, for one that we do not have or a name that the tool cannot read."""
        self.about = about
        self._style = style
        self._names = dict(style.defaults)
        given = dict(mapping or {})
        for key in given:
            if key not in (*KEYS, _ALL_BUCKETS):
                raise InvalidInput(
                    _field(key), f"is none of our accounts; there are {', '.join((*KEYS, _ALL_BUCKETS))}"
                )
        if (name := given.pop(_ALL_BUCKETS, None)) is not None:
            self._names |= {key: _checked(_ALL_BUCKETS, name, style) for key in KEYS if key.startswith("liability:")}
        self._names |= {key: _checked(key, name, style) for key, name in given.items()}
        self._found: dict[str, str] = {}
        self._owners: dict[str, tuple[str, str]] = {}

    def of(self, account: str) -> str:
        """The tool's name of an account. Raises InvalidInput where the mapping gives an affiliate's own name to
        somebody else's account as well."""
        found = self._found.get(account)
        if found is None:
            found = self._found[account] = self._map(account)
        return found

    def _map(self, account: str) -> str:
        affiliate_id = owner(account)
        key, bucket = account, ""
        if account.startswith("liability:"):
            bucket = account.rpartition(":")[2]
            key = f"liability:{{affiliate}}:{bucket}"
        elif affiliate_id:
            key = _PAID
        name = self._names[key]
        whose = affiliate_id if "{affiliate}" in name else ""
        made = _filled(name, self._style, affiliate_id, bucket)
        other_key, other = self._owners.setdefault(made, (key, whose))
        if other != whose:
            raise InvalidInput(
                _field(key),
                f"leads to {made}, and so does {_field(other_key)}, though one is affiliate {whose or other}'s own and"
                " the other is not: put another word into one of them",
            )
        return made


def _field(key: str) -> str:
    return f'accounts."{key}"'


def _filled(name: str, style: Style, affiliate_id: str, bucket: str) -> str:
    values = {"affiliate": style.affiliate(affiliate_id), "bucket": style.bucket(bucket)}
    return _PLACEHOLDER.sub(lambda match: values[match[1]], name)


def _checked(key: str, name: str, style: Style) -> str:
    """The name, if the tool reads what it becomes. Raises InvalidInput naming the key."""
    may = {"affiliate", "bucket"} if key.startswith("liability:") else {"affiliate"} if key == _PAID else set()
    for placeholder in _PLACEHOLDER.findall(name):
        if placeholder not in may:
            hint = f"it may have {', '.join(f'{{{one}}}' for one in sorted(may))}" if may else "it may have none"
            raise InvalidInput(_field(key), f"has {{{placeholder}}}, which it does not know; {hint}")
    made = _filled(name, style, _SAMPLE, "payable")
    if (problem := style.problem(made)) is not None or "{" in made or "}" in made:
        raise InvalidInput(_field(key), f"{name!r} {problem or 'has a { or } that is no placeholder'}")
    return name


def read_mapping(name: str, content: bytes, style: Style) -> Accounts:
    """The accounts of a mapping file. name: the file's, for messages. Raises InvalidInput naming the key."""
    try:
        found = tomllib.loads(content.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as problem:
        raise InvalidInput(name, f"is no TOML: {problem}") from None
    if unknown := [key for key in found if key != "accounts"]:
        raise InvalidInput(unknown[0], f"is not known in {name}; there is one table, [accounts]")
    table = found.get("accounts")
    if not isinstance(table, dict):
        raise InvalidInput("accounts", f'is missing in {name}: a table [accounts] with lines such as "{VAT}" = "1406"')
    for key, value in table.items():
        if not isinstance(value, str):
            raise InvalidInput(_field(key), 'must be an account\'s name in quotes, such as "1406"')
    about = f"mapping with SHA-256 {sha256(content).hexdigest()}"
    return Accounts(style, table, about)
