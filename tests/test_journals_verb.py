"""The export verb with --journal, and the names that a mapping gives our accounts."""

from __future__ import annotations

import csv
import io
import re
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from journal_world import ODD, at, journal
from statement_world import open_firm
from support import PROGRAM, T0, by, open_ledger, open_shop, owner, program_id, sale
from test_cli import Ledger, ledger, ok

from ledger.domain.errors import InvalidInput, WrongState
from ledger.journals import beancount, csvfile, hledger, writing
from ledger.journals.accounts import KEYS, Accounts, read_mapping
from ledger.journals.common import JournalDiffers
from ledger.journals.scope import Mark, Scope
from ledger.store.database import Database
from ledger.store.durable import write_pieces

__all__ = ["ledger"]  # the fixture


def references(content: bytes) -> list[str]:
    """What the rows of a CSV journal refer to."""
    return [row["reference"] for row in csv.DictReader(io.StringIO(content.decode(), newline=""))]


def test_the_verb_writes_a_file_whole_or_not_at_all(ledger: Ledger, database: Database, tmp_path: Path) -> None:
    """To a file for its owner's eyes only, or to standard output, the same bytes; control totals on stderr. When the
    books contradict themselves nothing is written and the file that was there stays."""
    with open_ledger(database) as core:
        open_shop(core)
        core.execute(PROGRAM, sale("o1", 12345), by())
    file = tmp_path / "books.journal"
    export = ("export", "-p", PROGRAM, "--journal", "hledger", "--to")
    said = ledger(*export, str(file))
    assert (said.code, said.out) == (0, "")
    assert "GBP: 1 transactions, 1 lines, debits = credits = 12.35" in said.err
    assert ok(ledger(*export, "-")) == file.read_text()
    assert file.stat().st_mode & 0o077 == 0
    assert "nothing happened in it" in ledger(*export, "-", "--from", "2026-03-01").err
    before = file.read_bytes()
    with owner(database) as conn:
        conn.execute("ALTER TABLE journal DISABLE TRIGGER ALL")
        conn.execute("UPDATE journal SET amount = amount + 1 WHERE program_id = %s", (program_id(PROGRAM),))
    said = ledger(*export, str(file))
    assert said.code == 1
    assert said.err == (
        "ledger: account expense:commission in GBP: the balances say 1235 minor units, the journal 1236; nothing was"
        " exported. `ledger rebuild` compares the books with the log\n"
    )
    assert file.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == ["books.journal"]


def test_what_is_wrong_is_said_in_one_line(ledger: Ledger, database: Database, tmp_path: Path) -> None:
    """Periods that say no dates, spans that are empty, options of the other form, a folder for a file."""
    with open_ledger(database) as core:
        open_shop(core)
    chart = tmp_path / "chart.toml"
    chart.write_text('[accounts]\n"tax:vta" = "x"\n')
    journal_to = ("export", "-p", PROGRAM, "--journal", "csv", "--to", "-")
    for code, words, said in (
        (1, (*journal_to, "--period", "carnival"), "period: carnival is not closed, and its name does not say"),
        (1, (*journal_to, "--period", "2026-W60"), "2026-W60 is no ISO week"),
        (1, (*journal_to, "--from", "yesterday"), "from: yesterday is no day such as 2026-03-01"),
        (1, (*journal_to, "--until", "2026-03-01T12:00:00"), "until: 2026-03-01T12:00:00 is no day"),
        (1, (*journal_to, "--from", "2026-03-01", "--until", "2026-03-01"), "until: must be later than 2026-03-01T"),
        (2, (*journal_to, "--from", "2026-03-01", "--period", "2026-03"), "either --period, or --from and --until"),
        (2, (*journal_to, "--format", "parquet"), "--format is for the log"),
        (2, ("export", "-p", PROGRAM, "--to", str(tmp_path), "--from", "2026-01-01"), "--from is for --journal"),
        (2, ("export", "-p", PROGRAM, "--to", str(tmp_path), "--until", "2026-01-01"), "must be a position of the log"),
        (2, (*journal_to[:-1], str(tmp_path)), "must be a file, in a directory that is there"),
        (1, (*journal_to, "--accounts", str(chart)), 'accounts."tax:vta": is none of our accounts'),
        (1, ("export", "-p", "nowhere", "--journal", "csv", "--to", "-"), "there is no such program"),
    ):
        found = ledger(*words)
        assert (found.code, said in found.err, found.out) == (code, True, ""), (words, found.err)
        assert "Traceback" not in found.err


def test_a_journal_is_one_look_at_the_books(database: Database) -> None:
    """What is sold while a journal is written is not in it, and does not disturb it."""
    with open_ledger(database) as core:
        open_shop(core)
        core.execute(PROGRAM, sale("o1", 1000), by())
        with writing.open_journal(core, PROGRAM, writing.Asked("csv")) as made:
            core.execute(PROGRAM, sale("o2", 2000), by())
            assert references(b"".join(made.pieces)) == ["o1"]
        assert references(journal(core, PROGRAM, "csv")) == ["o1", "o2"]


def test_what_is_sold_between_two_questions_does_not_contradict(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Position, balances and lines are asked one after the other, and are of one instant all the same."""
    with open_ledger(database) as core:
        open_shop(core)
        core.execute(PROGRAM, sale("o1", 1000), by())
        resolve = writing.resolve

        def and_then_a_sale(*args: Any) -> Scope:
            found = resolve(*args)
            core.execute(PROGRAM, sale("o2", 2000), by())
            return found

        monkeypatch.setattr(writing, "resolve", and_then_a_sale)
        assert references(journal(core, PROGRAM, "csv")) == ["o1"]


def test_lines_that_are_not_what_was_counted_are_refused(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line that gets lost on its way fails the whole file."""
    with open_ledger(database) as core:
        open_shop(core)
        core.execute(PROGRAM, sale("o1", 1000), by())
        core.execute(PROGRAM, sale("o2", 1000), by())
        every = writing._transactions
        monkeypatch.setattr(writing, "_transactions", lambda *args: list(every(*args))[:-1])
        with (
            pytest.raises(JournalDiffers, match="account expense:commission in GBP: the database say 200 minor units"),
            writing.open_journal(core, PROGRAM, writing.Asked("csv")) as made,
        ):
            write_pieces(tmp_path / "x", made.pieces)
    assert list(tmp_path.iterdir()) == []


def test_years_that_beancount_cannot_read_are_said(database: Database) -> None:
    """It reads 1700 to 2999; the message names the position."""
    with open_firm(database, now=T0) as firm:
        firm.adjust("old", 100, at=at(1650, 5, 1))
        with pytest.raises(
            WrongState, match="beancount reads the years 1700 to 2999, and the first transaction is of 1650"
        ):
            journal(firm.ledger, firm.program, "beancount")
        assert b"1650-05-01=2026-01-01 * " in journal(firm.ledger, firm.program, "hledger")


def test_the_first_checkpoint_that_covers_it_is_named(database: Database) -> None:
    """Size and root of the seal, not of a later one."""
    with open_ledger(database) as core:
        open_shop(core)
        last = core.execute(PROGRAM, sale("o1", 1000), by()).position
        with core.writing(PROGRAM) as (cur, id_):
            for size in (last - 1, last, last + 1):
                cur.execute(
                    "INSERT INTO checkpoints (program_id, log, size, root, note, sealed_at)"
                    " VALUES (%s, 'books', %s, %s, 'note', %s)",
                    (id_, size, bytes([size % 256]) * 32, T0),
                )
        until = f"position {last - 1} of the books' log"
        assert until not in journal(core, PROGRAM, "hledger").decode()
        assert (
            f"; checkpoint: size {last}, root {bytes([last % 256]).hex() * 32}"
            in journal(core, PROGRAM, "hledger").decode()
        )


def test_days_of_late_lines_stay_inside() -> None:
    """Recorded after the end: the last day; recorded before the beginning (a clock that was put back): the first."""
    scope = Scope("America/New_York", Mark(5, at(2026, 2, 1)), Mark(9, at(2026, 3, 1)))
    old = at(2026, 1, 7)
    assert scope.booked_on(old, at(2026, 2, 10)) == date(2026, 2, 10)
    assert scope.booked_on(old, at(2026, 3, 5)) == date(2026, 2, 28)
    assert scope.booked_on(old, at(2026, 1, 8)) == date(2026, 2, 1)
    assert scope.booked_on(at(2026, 2, 20), at(2026, 3, 5)) == date(2026, 2, 20)


# --- names of accounts --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "key", "value", "said"),
    [
        ("hledger", "tax:vta", '"1406"', "is none of our accounts; there are liability:{affiliate}:pending, "),
        ("hledger", "tax:vat", '"1406  Vorsteuer"', "'1406  Vorsteuer' is no account that hledger reads safely"),
        ("hledger", "tax:vat", '"a;b"', "'a;b' is no account"),
        ("hledger", "tax:vat", '"(a)"', "'(a)' is no account"),
        ("hledger", "tax:vat", '"a: b"', "'a: b' is no account"),
        ("hledger", "tax:vat", '"tax:{affiliate}"', "has {affiliate}, which it does not know; it may have none"),
        ("hledger", "asset:bank:{affiliate}", '"bank:{bucket}"', "it may have {affiliate}"),
        ("hledger", "tax:vat", '"a{b"', "'a{b' is no account"),
        ("hledger", "tax:vat", "1406", "must be an account's name in quotes"),
        ("beancount", "tax:vat", '"1406"', "'1406' is no account of beancount: Assets, Liabilities"),
        ("beancount", "tax:vat", '"Assets:vat"', "'Assets:vat' is no account of beancount"),
        ("beancount", "asset:bank:{affiliate}", '"Assets:-{affiliate}"', "is no account of beancount"),
        ("csv", "tax:vat", '"=1+1"', "'=1+1' must be one line that no spreadsheet takes for a formula"),
    ],
)
def test_a_wrong_name_is_refused_by_its_key(kind: str, key: str, value: str, said: str) -> None:
    """The message names the key, and what would be right."""
    with pytest.raises(InvalidInput) as refused:
        read_mapping("m.toml", f'[accounts]\n"{key}" = {value}\n'.encode(), writing.KINDS[kind].style)
    assert refused.value.message.startswith(f'accounts."{key}": ')
    assert said in refused.value.message


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('[account]\n"tax:vat" = "a"', "account: is not known in m.toml"),
        ("", "accounts: is missing in m.toml"),
        ("[accounts", "m.toml: is no TOML"),
    ],
)
def test_a_file_that_is_no_mapping_is_refused(content: str, said: str) -> None:
    """The message names the file and what is missing."""
    with pytest.raises(InvalidInput) as refused:
        read_mapping("m.toml", content.encode(), hledger.STYLE)
    assert refused.value.message.startswith(said)


def test_the_page_s_mapping_is_one() -> None:
    """What docs/journals.md shows can be used as it is, and names every account that it lists."""
    page = (Path(__file__).resolve().parents[1] / "docs" / "journals.md").read_text()
    shown = re.search(r"```toml\n(.*?)```", page, re.DOTALL)
    assert shown is not None
    accounts = read_mapping("accounts.toml", shown[1].encode(), hledger.STYLE)
    assert accounts.of("liability:a.b:in_transit") == "Liabilities:Commissions:in_transit"
    assert accounts.of("liability:a.b:payable") == "Liabilities:Creditors:a.b"
    assert not [key for key in KEYS if f"`{key}`" not in page and not key.startswith("liability:")]


_IDS = st.text(st.sampled_from("aAbBxXcdu019._-"), min_size=1, max_size=8)


@given(_IDS, _IDS)
def test_affiliates_in_beancount_never_collide(one: str, other: str) -> None:
    """Every id has a name that beancount reads, and leads back to it."""
    made = beancount.affiliate_part(one)
    assert beancount.affiliate_of(made) == one
    assert re.fullmatch(r"[A-Z0-9][A-Za-z0-9-]*", made)
    assert (made == beancount.affiliate_part(other)) == (one == other)


def test_defaults_name_every_account_and_no_two_the_same() -> None:
    """Whatever an affiliate is called, its accounts are not the program's."""
    ids = (*ODD, "fees", "bank", "commission", "payable", "affiliates", "Program", "tax", "VAT")
    real = [key for key in KEYS if "{" not in key] + [
        key.replace("{affiliate}", one) for key in KEYS if "{" in key for one in ids
    ]
    for style in (hledger.STYLE, beancount.STYLE, csvfile.STYLE):
        accounts = Accounts(style)
        names = [accounts.of(account) for account in real]
        assert len(set(names)) == len(real)
        assert not [name for name in names if style.problem(name)]
