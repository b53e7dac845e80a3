"""Commission plans on the command line: mistakes by line and column, publishing a file, what a plan pays in words."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pages import ROOT, commands_of, page_of_docs
from test_cli import Ledger, ledger, shop  # noqa: F401 - fixtures

from ledger.cli import json_places
from ledger.domain.plans import plan, plan_check
from ledger.domain.plans.plan_shape import inside

MARGINAL = ROOT / "examples" / "plans" / "marginal-tiers.json"
WRONG = """\
{
  "plan": 1,
  "rules": [
    {"id": "a", "when": {"sku": ["x"]}, "pay": {"rate_bps": 1e3}},
    {"id": "a", "pay":
      {}}
  ],
\t"mach": "best", "rules\\u001b": 1,
  "caps": [], "caps": []
}
"""


def test_every_mistake_has_its_line_and_column(ledger: Ledger, tmp_path: Path) -> None:  # noqa: F811
    """In the order of the file, in the form that editors jump to, with exit code 1; a control character in a name does
    not reach the terminal."""
    file = tmp_path / "plan.json"
    file.write_text(WRONG)
    said = ledger("plan", "check", str(file))
    assert said.code == 1
    assert [line.removeprefix(f"{file}:") for line in said.out.splitlines()] == [
        "4:61: /rules/0/pay/rate_bps: must be an integer, written without a decimal point or an exponent",
        '5:12: /rules/1/id: must differ from the others: "a" is the id of /rules/0',
        "6:7: /rules/1/pay: must have exactly one of rate_bps, amount, amount_per_item, amount_per_click, tiers; it has"
        " none",
        '8:10: /mach: is not known here; did you mean "match"?',
        '8:33: /rules\\x1b: is not known here; did you mean "rules"?',
        "9:15: /caps: is there twice",
    ]


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b'{"plan": 1,\n  "rules": [}', "2:13: must be JSON"),
        (b'{"plan": "NaN",\n "rules": NaN}', "2:11: must be JSON: NaN is not JSON"),
        (b"\xff{}", "1:1: must be UTF-8"),
        (b"[" * 100_000, "1:1: must be JSON without endless numbers or nesting"),
        (b"9" * 5000, "1:1: must be JSON without endless numbers or nesting"),
        (b" " * (plan_check.TEXT_MAX + 1), "1:1: must be at most 524,288 bytes"),
        (b"[]", "1:1: must be an object, not a list"),
        ("\ufeff{}".encode(), "1:1: /plan: is required"),
    ],
    ids=["broken", "nan", "latin", "deep", "long", "large", "list", "bom"],
)
def test_what_is_no_plan_at_all_is_said_in_one_line(ledger: Ledger, tmp_path: Path, raw: bytes, says: str) -> None:  # noqa: F811
    """No traceback, whatever the file holds."""
    file = tmp_path / "plan.json"
    file.write_bytes(raw)
    said = ledger("plan", "check", str(file))
    assert (said.code, said.err) == (1, "")
    assert said.out.splitlines()[0].startswith(f"{file}:{says}")


def test_the_schema_is_printed(ledger: Ledger) -> None:  # noqa: F811
    """As the API gives it."""
    assert json.loads(ledger("plan", "schema").out) == json.loads(json.dumps(plan_check.schema()))


def test_a_plan_is_published_from_a_file_and_shown(shop: Ledger, tmp_path: Path) -> None:  # noqa: F811
    """Published, listed by its hash, and shown: since when, the hash, what it pays in words, and the document."""
    terms = ("-p", "shop", "--hold-days", "30", "--window-days", "14")
    said = shop("offer", "publish", "club", *terms, "--plan", str(MARGINAL))
    assert (said.code, said.out) == (0, "offer club: terms version 1 in force\n")
    document = json.loads(MARGINAL.read_text())
    hash_ = plan.hash_of(document)
    assert f"plan {hash_[:12]}" in shop("offers", "-p", "shop").out
    shown = shop("plan", "show", "club", "-p", "shop").out
    assert shown.startswith(
        "offer club, terms version 1: from the beginning on\n"
        f"hold days 30, window days 14, SHA-256 {hash_}\n"
        "\n"
        "Commissions are in USD.\n"
    )
    assert "Tier 2 of rule sales: 6 % of the amount, from 200.00 USD of revenue on.\n" in shown
    assert json.loads(shown[shown.index("{") :]) == document
    said_as_json = json.loads(shop("plan", "show", "club", "-p", "shop", "--json").out)
    assert (said_as_json["plan"], said_as_json["plan_hash"], said_as_json["status"]) == (document, hash_, "in_force")
    assert json.loads(shop("offers", "-p", "shop", "--json").out)[0]["terms"][0]["plan_hash"] == hash_
    back = shop("offer", "publish", "shoes", *terms, "--plan", str(MARGINAL), "--effective-from", "2026-01-01")
    assert "version 2 waiting" in back.out
    waiting = shop("plan", "show", "shoes", "-p", "shop", "--version", "2").out
    assert waiting.startswith("offer shoes, terms version 2, waiting: from 2026-01-01 00:00:00 UTC on\n")
    assert "no version 7" in shop("plan", "show", "shoes", "-p", "shop", "--version", "7").err
    assert "does not exist" in shop("plan", "show", "hats", "-p", "shop").err
    file = tmp_path / "plan.json"
    file.write_text(WRONG)
    refused = shop("offer", "publish", "new", *terms, "--plan", str(file))
    assert (refused.code, refused.out) == (1, "")
    assert f"{file}:6:7: /rules/1/pay" in refused.err
    assert refused.err.endswith(f"ledger: {file} is no commission plan; nothing was published\n")
    assert "new" not in shop("offers", "-p", "shop").out
    assert shop("offer", "publish", "new", *terms, "--plan", str(MARGINAL), "--percent", "5").code == 2


def test_the_commands_of_the_page_run(shop: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    """What docs/plans.md says to type does what it says."""
    monkeypatch.chdir(ROOT)
    typed = [words for words, is_block in commands_of(page_of_docs("plans")) if is_block]
    assert [words[:2] for words in typed] == [
        ["plan", "schema"],
        ["plan", "check"],
        ["plan", "try"],
        ["offer", "publish"],
        ["plan", "show"],
        ["plan", "history"],
        ["plan", "diff"],
    ]
    for words in typed:
        assert shop(*words[: words.index(">") if ">" in words else None]).code == 0, words


# --- where things stand ------------------------------------------------------------------------------------------


def _pointers(value: object, pointer: str = "") -> Iterator[tuple[str, object]]:
    yield pointer, value
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, one in inner:
        yield from _pointers(one, inside(pointer, name))


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=6) | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=12,
)


@given(_VALUES, st.sampled_from([None, 0, 2, "\t"]), st.booleans())
def test_every_value_is_found_where_it_stands(value: object, indent: int | str | None, ascii_only: bool) -> None:
    """Whatever the document and however it is laid out: at the place of each pointer its value begins."""
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    found = json_places.read(text)
    lines = text.split("\n")
    assert found.twice == []
    expected = dict(_pointers(value))
    assert set(found.places) == set(expected)
    for pointer, one in expected.items():
        line, column = found.places[pointer]
        rest = "\n".join([lines[line - 1][column - 1 :], *lines[line:]])
        assert json.JSONDecoder().raw_decode(rest)[0] == one


def test_what_is_missing_is_found_at_its_owner() -> None:
    """The nearest object that is there."""
    found = json_places.read('{\n "a": {"b": 1}}')
    assert found.place("/a/c/d") == (2, 7)
    assert found.place("/x") == (1, 1)
