"""The verbs of reconciliation as a clerk uses them: compare, list, assign, settle."""

from __future__ import annotations

import json
import re
from pathlib import Path

from import_support import MAPPING, L, write
from test_cli import Ledger, ledger, ok, shop  # noqa: F401 - fixtures


def test_a_clerk_compares_an_export_and_settles_what_differs(shop: Ledger, tmp_path: Path) -> None:  # noqa: F811
    """The table counts and sums by type and names the first few; the list has age and owner; a settled one is gone."""
    lines = [L("1", "A", 5), L("2", "A", 2)]
    imported = f"{write(tmp_path / 'a.csv', lines)} -p shop --mapping {MAPPING}"
    ok(shop("import", "orders", *imported.split(), "--offer", "shoes"))
    assert "no differences" in ok(shop("reconcile", "orders", *imported.split()))
    other = f"{write(tmp_path / 'b.csv', [L('1', 'A', 6), *(L(f'n{n}', 'A', 1) for n in range(7))])} -p shop"
    verb = f"reconcile orders {other} --mapping {MAPPING}".split()
    looked = ok(shop(*verb, "--dry-run"))
    assert "breaks:" not in looked
    assert json.loads(ok(shop("breaks", "-p", "shop", "--json"))) == {"items": [], "ageing": []}
    said = ok(shop(*verb))
    assert said.startswith(looked)
    assert re.search(r"amount_differs +1 +5\.00 +6\.00 +GBP", said)
    assert re.search(r"extra +1 +2\.00 +0\.00 +GBP", said)
    assert re.search(r"missing +7 +0\.00 +7\.00 +GBP", said)
    assert "  order 1 of 2010-01-01 is 6.00 GBP in the export and 5.00 GBP here\n" in said
    assert "  … 2 more of missing\n" in said
    assert said.endswith("breaks: 9 opened or changed, 0 vanished\n")
    assert ok(shop(*verb)).endswith("breaks: 0 opened or changed, 0 vanished\n")

    ok(shop("break", "assign", "orders:extra", "ben", "-p", "shop"))
    several = shop("break", "assign", "orders:missing", "ben", "-p", "shop")
    assert (several.code, "several breaks begin with orders:missing" in several.err) == (2, True)
    settle = ["break", "resolve", "orders:missing:n0", "-p", "shop", "--as", "accepted", "--cause", "merchant"]
    ok(shop(*settle, "--reason", "a test order", "--by", "omar"))
    settled = ok(shop("breaks", "-p", "shop", "--status", "resolved"))
    assert re.search(r"^orders:missing:n0 +0 +- +n0 +- +1\.00 +GBP +accepted +merchant +omar ", settled, re.MULTILINE)
    listed = ok(shop("breaks", "-p", "shop"))
    assert re.search(r"^orders:extra:2 +0 +ben +2 +2\.00 +- +GBP +order 2 of", listed, re.MULTILINE)
    assert "n0" not in listed
    assert re.search(r"orders +missing +GBP +6 \(6\.00\) +- +- +-$", listed, re.MULTILINE)
    document = json.loads(ok(shop(*verb, "--json")))
    assert (document["opened"], document["orders_there"], document["orders_here"]) == (0, 8, 2)

    back = shop("reconcile", "orders", *imported.split())
    assert back.out.endswith("breaks: 0 opened or changed, 8 vanished\n")
    unknown = shop("break", "assign", "orders:none", "ben", "-p", "shop")
    assert (unknown.code, unknown.err) == (1, "ledger: break orders:none does not exist\n")
