"""The `ledger` command as a clerk and an operator use it: what it prints, what it refuses, and with which exit code."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import pytest
from import_support import MAPPING, L, write
from support import MASTER_KEY, by, open_ledger, refund, sale

from ledger.cli import cli, main
from ledger.store.database import Database


class Said(NamedTuple):
    """What a verb said."""

    code: int
    out: str
    err: str


Ledger = Callable[..., Said]


@pytest.fixture
def ledger(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], database: Database) -> Iterator[Ledger]:
    """Run a verb in this process, on the test's database, as operator 'olga'."""
    for name in ("LEDGER_OWNER_URL", "LEDGER_READER_URL", "LEDGER_HOME", "LEDGER_MASTER_KEY_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DATABASE_URL", database.app_url)
    monkeypatch.setenv("LEDGER_MASTER_KEY", MASTER_KEY.hex())
    monkeypatch.setenv("LEDGER_OPERATOR", "olga")
    before = signal.getsignal(signal.SIGTERM)

    def run(*args: str) -> Said:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(args)
        said = capsys.readouterr()
        return Said(int(ended.value.code or 0), said.out, said.err)

    yield run
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def shop(ledger: Ledger) -> Ledger:
    """A program with an offer and two affiliates, made by the verbs themselves."""
    for line in (
        "program open shop --currency GBP",
        "offer publish shoes -p shop --percent 10 --hold-days 30 --window-days 30",
        "affiliate enrol ada -p shop --approve",
        "affiliate enrol bob -p shop --approve",
    ):
        assert ledger(*line.split()).code == 0
    return ledger


def ok(said: Said) -> str:
    """What it printed, when it went well."""
    assert said.code == 0, said.err
    return said.out


# --- books -------------------------------------------------------------------------------------------------


def test_balances_and_trial_balance_print_exactly_the_documented_documents(shop: Ledger, database: Database) -> None:
    """One JSON document each, with these keys and integers in minor units."""
    with open_ledger(database) as core:
        core.execute("shop", sale("o1", 12345), by())
        core.execute("shop", sale("o2", 2000, "bob"), by())
    nothing = {"held": 0, "payable": 0, "in_transit": 0, "paid": 0}
    assert json.loads(ok(shop("balances", "--program", "shop", "--json"))) == [
        {"affiliate_id": "ada", "currency": "GBP", "pending": 1235, **nothing},
        {"affiliate_id": "bob", "currency": "GBP", "pending": 200, **nothing},
    ]
    expected = [
        {"account": "expense:commission", "currency": "GBP", "amount": 1435},
        {"account": "liability:ada:pending", "currency": "GBP", "amount": -1235},
        {"account": "liability:bob:pending", "currency": "GBP", "amount": -200},
    ]
    assert json.loads(ok(shop("trial-balance", "--program", "shop", "--json"))) == expected
    assert json.loads(ok(shop("trial-balance", "--json"))) == expected


def test_tables_are_in_major_units_with_a_total_that_adds_up(shop: Ledger, database: Database) -> None:
    """A finance clerk reads pounds, aligned to the right, and a zero sum that is written out."""
    with open_ledger(database) as core:
        core.execute("shop", sale("o1", 123456789), by())
        core.execute("shop", sale("o2", 2000, "bob"), by())
    lines = ok(shop("balances", "-p", "shop")).splitlines()
    assert lines[2].split() == ["ada", "GBP", "123,456.79", *["0.00"] * 4]
    assert lines[3].split() == ["bob", "GBP", "2.00", *["0.00"] * 4]
    assert lines[-1].split() == ["TOTAL", "GBP", "123,458.79", *["0.00"] * 4]
    assert len({len(line) for line in lines[1:]}) == 1, "the columns are aligned"
    assert re.search(r"^SUM +GBP +0\.00$", ok(shop("trial-balance", "-p", "shop")), re.MULTILINE)


def test_balances_as_of_a_position_an_instant_and_an_effective_instant(shop: Ledger, database: Database) -> None:
    """Positions and instants look back at what was known, --effective at what had happened."""
    with open_ledger(database) as core:
        first = core.execute("shop", sale("o1", 1000), by()).position
        between = datetime.now(UTC)
        core.execute("shop", refund("r1", "o1"), by())

    def pending(*more: str) -> int:
        rows = json.loads(ok(shop("balances", "-p", "shop", "--json", *more)))
        return sum(row["pending"] for row in rows)

    assert pending() == 0
    assert pending("--as-of", str(first)) == 100
    assert pending("--as-of", between.isoformat()) == 100
    assert pending("--effective", "2026-01-02") == 100
    assert pending("--effective", "2026-01-02T00:00:00+02:00", "--as-of", str(first - 1)) == 0


def test_approve_due_approves_what_matured_and_nothing_twice(shop: Ledger, database: Database) -> None:
    """Thirty days after T0 and not a second earlier."""
    with open_ledger(database) as core:
        core.execute("shop", sale("o1", 1000), by())
    assert ok(shop("approve-due", "-p", "shop", "--now", "2026-01-30T23:59:59Z")).startswith("0 commissions approved")
    assert ok(shop("approve-due", "-p", "shop", "--now", "2026-01-31")).startswith("1 commissions approved")
    assert ok(shop("approve-due", "-p", "shop", "--now", "2026-01-31")).startswith("0 commissions approved")
    assert json.loads(ok(shop("balances", "-p", "shop", "--json")))[0]["payable"] == 100
    assert ok(shop("attribute-waiting", "-p", "shop", "--now", "2026-01-31")).startswith("0 conversions")


def test_rebuild_proves_the_books_equal(shop: Ledger, database: Database) -> None:
    """And says how many events and lines it replayed."""
    with open_ledger(database) as core:
        core.execute("shop", sale("o1", 1000), by())
    report = json.loads(ok(shop("rebuild", "-p", "shop", "--json")))
    assert (report["lines"], report["equal"], report["swapped"]) == (1, True, True)
    assert "equal to the live books" in ok(shop("rebuild", "-p", "shop"))
    assert json.loads(ok(shop("balances", "-p", "shop", "--json")))[0]["pending"] == 100


# --- records -----------------------------------------------------------------------------------------------


def test_the_first_terms_hold_from_the_beginning_and_later_ones_from_now_on(shop: Ledger, database: Database) -> None:
    """So that old orders can be imported; a version that reaches back waits for a second person."""
    with open_ledger(database) as core:
        core.execute("shop", sale("old", 1000, occurred_at=datetime(1995, 5, 5, tzinfo=UTC)), by())
    assert json.loads(ok(shop("balances", "-p", "shop", "--json")))[0]["pending"] == 100
    line = "offer publish shoes -p shop --hold-days 30 --window-days 30"
    assert "terms version 2 in force" in ok(shop(*line.split(), "--percent", "12.5"))
    assert "nothing changed" in ok(shop(*line.split(), "--percent", "12.5"))
    said = shop(*line.split(), "--percent", "20", "--effective-from", "2020-01-01T00:00:00Z")
    assert "terms version 3 waiting" in ok(said)
    assert "second person" in said.err
    with open_ledger(database) as core:
        core.execute("shop", sale("old2", 1000, occurred_at=datetime(2025, 5, 5, tzinfo=UTC)), by())
    assert json.loads(ok(shop("balances", "-p", "shop", "--json")))[0]["pending"] == 200


def test_new_terms_keep_the_offer_s_landing_page(ledger: Ledger, database: Database) -> None:
    """A flat amount a sale, then another one: the page published first stays."""
    ok(ledger("program", "open", "shop", "--currency", "EUR"))
    line = "offer publish club -p shop --hold-days 1 --window-days 1 --currency EUR"
    ok(ledger(*line.split(), "--flat", "12.50", "--landing-url", "https://shop.example/club"))
    ok(ledger(*line.split(), "--flat", "15"))
    with open_ledger(database) as core, core.reading("shop") as (cur, id_):
        cur.execute("SELECT state FROM book_events WHERE program_id = %s AND topic = 'OfferPublished'", (id_,))
        assert [json.loads(state)["landing_url"] for (state,) in cur] == ["https://shop.example/club"]
        cur.execute("SELECT state FROM book_events WHERE program_id = %s AND topic = 'TermsPublished'", (id_,))
        assert [json.loads(state)["amount"] for (state,) in cur] == [1250, 1500]


def test_an_affiliate_is_suspended_reinstated_and_closed(shop: Ledger, database: Database) -> None:
    """What a suspension holds, a reinstatement releases; a closed affiliate does not come back; a reason is no text in
    the log."""

    def ada() -> tuple[int, int]:
        (row,) = json.loads(ok(shop("balances", "-p", "shop", "--json")))
        return row["pending"], row["held"]

    with open_ledger(database) as core:
        core.execute("shop", sale("o1", 12345), by())
    assert ok(shop("affiliate", "suspend", "ada", "-p", "shop", "--reason", "odd traffic")) == (
        "affiliate ada is suspended\n"
    )
    with open_ledger(database) as core:
        core.execute("shop", sale("o2", 2000), by())
    before = ada()
    assert before[1] >= 200
    said = ok(shop("affiliate", "reinstate", "ada", "-p", "shop"))
    assert re.fullmatch(r"affiliate ada is approved\n[12] commissions that the suspension held are released\n", said)
    assert ada() == (sum(before), 0)
    assert "nothing changed" in ok(shop("affiliate", "reinstate", "ada", "-p", "shop"))
    assert ok(shop("affiliate", "close", "ada", "-p", "shop")) == "affiliate ada is closed\n"
    said_no = shop("affiliate", "reinstate", "ada", "-p", "shop")
    assert (said_no.code, said_no.out) == (1, "")
    assert "ada is closed: reinstate needs suspended" in said_no.err
    assert ada() == (sum(before), 0)
    with open_ledger(database) as core, core.reading("shop") as (cur, id_):
        cur.execute("SELECT state FROM book_events WHERE program_id = %s AND topic = 'AffiliateSuspended'", (id_,))
        (state,) = cur.fetchone() or ("",)
    assert "odd traffic" not in state


def test_keys_are_issued_listed_and_revoked(shop: Ledger) -> None:
    """The token is alone on stdout, so that a script can keep it; the list shows who holds what, and no secret."""
    said = shop("key", "issue", "-p", "shop", "--role", "affiliate", "--affiliate", "ada", "--holder", "ada")
    token = ok(said).strip()
    assert re.fullmatch(r"clk_[0-9a-f]{16}_[\w-]{43}", token)
    key_id = token.split("_")[1]
    (listed,) = json.loads(ok(shop("key", "list", "-p", "shop", "--json")))
    assert (listed["key_id"], listed["issued_by"], listed["revoked_at"]) == (key_id, "olga", None)
    assert token.split("_", 2)[2] not in ok(shop("key", "list", "-p", "shop"))
    ok(shop("key", "revoke", key_id, "-p", "shop"))
    assert "revoked" in ok(shop("key", "list", "-p", "shop"))
    assert re.fullmatch(r"[0-9a-f]{64}\n", ok(shop("postback-secret", "-p", "shop")))


def test_nobody_issues_a_key_to_themselves(shop: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever the operator is by --by, by LEDGER_OPERATOR, or by the system's user name."""
    line = ("key", "issue", "-p", "shop", "--role", "admin", "--holder")
    said = shop(*line, "olga")
    assert (said.code, said.out) == (1, "")
    assert "nobody issues a key to themselves" in said.err
    assert said.err.count("\n") == 1
    assert shop(*line, "ben", "--by", "ben").code == 1
    assert shop(*line, "olga", "--by", "ben").code == 0
    monkeypatch.delenv("LEDGER_OPERATOR")
    monkeypatch.setenv("LOGNAME", "system-user")
    assert shop(*line, "system-user").code == 1


# --- refusals ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        "balances -p nowhere",
        "trial-balance -p nowhere",
        "approve-due -p nowhere --now 2026-01-01",
        "attribute-waiting -p nowhere --now 2026-01-01",
        "offer publish o -p nowhere --percent 1 --hold-days 1 --window-days 1",
        "affiliate enrol ada -p nowhere",
        "key issue -p nowhere --role admin --holder ben",
        "key list -p nowhere",
        "key revoke 0123456789abcdef -p shop",
        "postback-secret -p nowhere",
        "rebuild -p nowhere",
        "program open shop --currency EUR",
        "program open shop2 --currency XYZ",
        "offer publish o -p shop --percent ten --hold-days 1 --window-days 1",
        "affiliate approve nobody -p shop",
        f"import orders {MAPPING} -p nowhere --offer o --mapping {MAPPING}",
        f"import orders {MAPPING} -p shop --offer shoes --mapping {__file__}",
    ],
)
def test_what_cannot_be_done_is_one_line_on_stderr(shop: Ledger, line: str) -> None:
    """Exit code 1, nothing on stdout, no traceback."""
    said = shop(*line.split())
    assert (said.code, said.out) == (1, "")
    assert re.fullmatch(r"ledger: [^\n]+\n", said.err)


@pytest.mark.parametrize(
    "line",
    [
        "balances",
        "frobnicate",
        "approve-due -p shop --now 2026-01-01T00:00:00",
        "balances -p shop --as-of yesterday",
        "key issue -p shop --role king --holder ben",
        "key issue -p shop --role admin --holder ben --by o'brien",
        "offer publish o -p shop --percent 1 --flat 2 --hold-days 1 --window-days 1",
        "offer publish o -p shop --flat 2 --hold-days 1 --window-days 1",
        "import orders nosuchfile.csv -p shop --offer o --mapping nosuchmapping.toml",
    ],
)
def test_wrong_usage_is_exit_code_two_with_a_hint(shop: Ledger, line: str) -> None:
    """As every command line tool does."""
    said = shop(*line.split())
    assert said.code == 2
    assert "Error: " in said.err


def test_every_verb_explains_itself_without_a_database(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """--help of each verb and group, down to the last."""
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
    paths = [(name,) for name in cli.commands]
    paths += [(name, sub) for name, group in cli.commands.items() for sub in getattr(group, "commands", ())]
    assert {" ".join(path) for path in paths} >= {
        "serve", "migrate", "demo", "program open", "offer publish", "key issue", "key revoke", "key list",
        "approve-due", "balances", "trial-balance", "import orders", "rebuild", "bench",
    }  # fmt: skip
    for path in paths:
        said = ledger(*path, "--help")
        assert "usage: " in ok(said).lower(), path


def test_a_database_without_migrations_or_a_service_without_a_key_says_what_to_do(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, empty_database: Database
) -> None:
    """`migrate` needs the owner's address; then it names what it applied, and the other verbs work."""
    monkeypatch.setenv("DATABASE_URL", empty_database.app_url)
    assert "run `python3 run.py migrate`" in ledger("trial-balance").err
    assert "LEDGER_OWNER_URL" in ledger("migrate").err
    assert empty_database.owner_url
    monkeypatch.setenv("LEDGER_OWNER_URL", empty_database.owner_url)
    assert "applied 0001_log.sql" in ok(ledger("migrate"))
    assert "nothing to do" in ok(ledger("migrate"))
    assert ok(ledger("trial-balance", "--json")) == "[]\n"
    monkeypatch.delenv("LEDGER_MASTER_KEY")
    said = ledger("trial-balance")
    assert said.code == 1
    assert "LEDGER_MASTER_KEY" in said.err
    monkeypatch.setenv("LEDGER_MASTER_KEY", MASTER_KEY.hex())
    monkeypatch.setenv("DATABASE_URL", "postgresql://ledger_app@127.0.0.1:1/none?connect_timeout=1")
    said = ledger("trial-balance")
    assert said.code == 1
    assert re.fullmatch(r"ledger: the database [^\n]+\n", said.err)


# --- import ------------------------------------------------------------------------------------------------


def import_line(path: Path, *more: str) -> list[str]:
    """The import's arguments."""
    line = ["import", "orders", str(path), "-p", "shop", "--offer", "shoes", "--mapping", str(MAPPING)]
    return [*line, "--enrol-affiliates", *more]


def test_import_prints_exactly_the_documented_document(shop: Ledger, tmp_path: Path) -> None:
    """And for people the same in pounds."""
    path = write(tmp_path / "a.csv", [L("1", "A", 5), L("C2", "A", -7, "02 10:00"), L("3", "A", -1)])
    document = {
        "orders": 1, "gross": 500, "commission": 50, "reversals": 1, "reversed_amount": 500, "reversed_commission": 50,
        "exceptions": {"unmatched_refund": 1, "not_a_sale": 1}, "unchanged": False,
    }  # fmt: skip
    said = shop(*import_line(path, "--json"))
    assert json.loads(ok(said)) == document
    assert said.err == "", "no progress in a pipe"
    assert json.loads(ok(shop(*import_line(path, "--json")))) == {**document, "unchanged": True}
    table = ok(shop(*import_line(path)))
    assert "orders     1  worth 5.00 GBP  commission 0.50 GBP" in table
    assert "nothing changed" in table
