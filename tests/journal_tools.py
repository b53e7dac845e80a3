"""Somebody else's bookkeeping: what hledger and beancount make of a journal. Both run as programs of their own."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path

import pytest

Balances = dict[tuple[str, str], Decimal]  # (account, currency) → what it holds, without the empty ones

HLEDGER = shutil.which("hledger")
needs_hledger = pytest.mark.skipif(HLEDGER is None, reason="hledger is not installed: apt-get install hledger")
needs_beancount = pytest.mark.skipif(
    importlib.util.find_spec("beancount") is None, reason="beancount is not installed: it is in requirements.lock"
)
PLACES = {"GBP": 2, "USD": 2, "JPY": 0, "KWD": 3}

# Run by a Python of its own: beancount is a program here, not a library of ours.
_BEANCOUNT = """
import collections, decimal, json, sys
from beancount import loader
from beancount.core import data
entries, errors, _ = loader.load_file(sys.argv[1])
held = collections.defaultdict(decimal.Decimal)
for entry in data.filter_txns(entries):
    for posting in entry.postings:
        held[posting.account, posting.units.currency] += posting.units.number
print(json.dumps({"errors": [f"{e.source['lineno']}: {e.message}" for e in errors],
                  "balances": [[*key, str(amount)] for key, amount in held.items() if amount]}))
"""


class ToolObjects(AssertionError):
    """The tool refuses the journal; the message is its own."""


def hledger(file: Path, *words: str) -> str:
    """What hledger prints about a journal. Raises ToolObjects."""
    assert HLEDGER is not None
    env = {**os.environ, "LC_ALL": "C.UTF-8"}
    ran = subprocess.run(
        [HLEDGER, "-f", str(file), *words], env=env, capture_output=True, text=True, timeout=120, check=False
    )
    if ran.returncode:
        raise ToolObjects(ran.stderr)
    return ran.stdout


def hledger_balances(file: Path) -> Balances:
    """What hledger says every account holds, having checked the assertions, accounts and commodities."""
    printed = hledger(file, "balance", "--strict", "--flat", "--no-total", "--layout=bare", "-O", "csv")
    rows = list(csv.DictReader(io.StringIO(printed)))
    return {(row["account"], row["commodity"]): Decimal(row["balance"]) for row in rows if Decimal(row["balance"])}


def beancount_balances(file: Path) -> Balances:
    """The same by beancount, which must have nothing to object."""
    ran = subprocess.run(
        [sys.executable, "-c", _BEANCOUNT, str(file)], capture_output=True, text=True, timeout=120, check=False
    )
    if ran.returncode:
        raise ToolObjects(ran.stderr)
    found = json.loads(ran.stdout)
    if found["errors"]:
        raise ToolObjects("\n".join(found["errors"]))
    return {(account, currency): Decimal(amount) for account, currency, amount in found["balances"]}


def in_major_units(amounts: Mapping[tuple[str, str], int]) -> Balances:
    """What the ledger holds, as the tools say it, without the empty ones."""
    return {key: Decimal(amount).scaleb(-PLACES[key[1]]) for key, amount in amounts.items() if amount}


def ours(account: str) -> str:
    """Our account, from its default name in hledger: the other way round, and by hand."""
    for theirs, name in {
        "liabilities:affiliates:": "liability:",
        "assets:bank:affiliates:": "asset:bank:",
        "assets:bank:program": "asset:bank",
        "expenses:bank fees": "expense:bank_fee",
        "expenses:": "expense:",
        "assets:tax:vat": "tax:vat",
        "liabilities:tax:withholding": "tax:withholding",
    }.items():
        if account.startswith(theirs):
            return name + account.removeprefix(theirs)
    raise AssertionError(account)
