"""The verbs of paying, as two people at a desk type them: a month from payee to bank statement, and what is refused."""

from __future__ import annotations

import io
import json
import re
import stat
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from import_support import ROOT
from mail_server import MailServer
from support import by, open_ledger, refund, sale
from test_cli import Ledger, Said, ledger, ok

from ledger.domain.affiliate import DecideAffiliate, EnrolAffiliate
from ledger.store.database import Database

__all__ = ["ledger"]  # the fixture
RUN = "2025-03-EUR-sepa-1"
# Made up, with right check digits; nobody's account.
IBANS = {
    "ada": "DE75512108001245126199",
    "bob": "FR1420041010050500013M02606",
    "cat": "NL91ABNA0417164300",
    "dan": "ES9121000418450200051332",
    "gus": "AT611904300234573201",
}
OWED = {"ada": 100_00, "bob": 50_00, "cat": 40_00, "dan": 30_00, "eve": 1_00, "fay": 20_00, "gus": 60_00}
BANK = ROOT / "examples" / "bank-csv.toml"


class Desk:
    """The program 'shop' as verbs see it. maria proposes, omar decides."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def __call__(self, line: str, *more: str, by: str = "") -> Said:
        """A verb; more: arguments with spaces."""
        return self._ledger(*line.split(), "-p", "shop", *(("--by", by) if by else ()), *more)

    def read(self, line: str) -> Any:
        """What a verb prints with --json."""
        return json.loads(ok(self(f"{line} --json")))


@pytest.fixture
def desk(ledger: Ledger, database: Database) -> Desk:
    """Seven affiliates with approved commissions of March 2025 in EUR; payout methods wait no hours."""
    ok(
        ledger(
            "program", "open", "shop", "--currency", "EUR", "--zone", "Europe/Berlin", "--payout-method-wait-hours", "0"
        )
    )
    ok(ledger("offer", "publish", "shoes", "-p", "shop", "--percent", "10", "--hold-days", "1", "--window-days", "30"))
    with open_ledger(database) as core:
        core.execute_many("shop", [EnrolAffiliate(affiliate_id=w, email=f"{w}@example.com") for w in OWED], by())
        core.execute_many("shop", [DecideAffiliate(affiliate_id=w, decision="approve") for w in OWED], by())
        sales = [sale(f"o-{w}", n * 10, w, occurred_at=datetime(2025, 3, 2, tzinfo=UTC)) for w, n in OWED.items()]
        core.execute_many("shop", sales, by())
        list(core.approve_due("shop", datetime(2025, 3, 31, tzinfo=UTC), by()))
    return Desk(ledger)


def with_payees(desk: Desk, folder: Path, *affiliates: str) -> None:
    """Some have payout methods in force, and the program an account."""
    for who in affiliates:
        details = folder / f"{who}.json"
        details.write_text(json.dumps({"name": who.title(), "iban": IBANS.get(who, IBANS["ada"])}))
        line = f"--affiliate {who} --currency EUR"
        ok(desk(f"payee set {line} --method sepa --minimum 25.00 --details-file {details}", by="maria"))
        ok(desk(f"payee approve {line} --version 1", by="omar"))
    ok(desk("payee account --currency EUR --name Shop --iban DE89370400440532013000", by="maria"))


def bank_csv(path: Path, lines: list[tuple[str, str, str, str]]) -> Path:
    """A bank's statement: (amount, payout id, kind, charges) a line, booked now."""
    mapping = BANK.read_text()
    heading = next(line[4:] for line in mapping.splitlines() if line.startswith("#   Auftragskonto"))
    day = f"{datetime.now(UTC):%d.%m.%Y}"
    rows = [
        f"DE89370400440532013000;{day};{day};{amount};EUR;{payout_id};R{n};{kind};Text;Name;{charges}"
        for n, (amount, payout_id, kind, charges) in enumerate(lines)
    ]
    path.write_text("\n".join([heading, *rows]) + "\n", encoding="utf-8")
    return path


def test_payees_are_set_by_two_and_shown_masked(desk: Desk, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Details come by file, stdin or options; nothing that is printed has an account number in it."""
    line = "--affiliate ada --currency EUR"
    details = json.dumps({"name": "Ada", "iban": IBANS["ada"]})
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(details.encode())))
    said = desk(f"payee set {line} --method sepa --minimum 25 --details-file -", by="maria")
    assert "version 1, sepa, name A•••, iban DE75 •••• 6199: waits for a second person" in ok(said)
    assert said.err == ""
    assert "two people" in desk(f"payee approve {line} --version 1", by="maria").err.lower()
    (tmp_path / "ada.json").write_text(details)
    again = desk(f"payee set {line} --method sepa --minimum 25 --details-file {tmp_path / 'ada.json'}", by="maria")
    assert "nothing changed" in ok(again)
    approved = ok(desk(f"payee approve {line} --version 1", by="omar"))
    assert "minimum 25.00" in approved
    assert "iban DE75 •••• 6199" in approved
    typed = desk(f"payee set {line} --method paypal --email ada@example.com", by="maria")
    assert "shell histories" in typed.err, "whoever types details is told who may see them"
    assert "is rejected" in ok(desk(f"payee reject {line} --version 2", by="omar"))
    ok(desk(f"payee set {line} --method paypal --email a2@example.com", by="maria"))
    assert "is withdrawn" in ok(desk(f"payee withdraw {line} --version 3", by="maria"))
    listed = ok(desk("payee list"))
    assert re.search(r"^ada +EUR +1 +sepa +25\.00 +A•••, DE75 •••• 6199 +in force from", listed, re.MULTILINE)
    versions = desk.read("payee list --affiliate ada")
    assert [(v["method_version"], v["status"]) for v in versions] == [
        (1, "in_force"),
        (2, "rejected"),
        (3, "withdrawn"),
    ]
    assert IBANS["ada"] not in listed + json.dumps(versions)
    assert "ada@" not in listed + json.dumps(versions)
    assert desk.read("payee list --affiliate bob") == []
    account = "payee account --currency EUR"
    assert "version 1" in ok(desk(f"{account} --name Shop --iban DE89370400440532013000", by="maria"))
    assert "iban DE89 •••• 3000: version 1" in ok(desk(f"{account} --show"))

    for wrong in (
        "--method sepa --name Ada --iban DE00512108001245126199",
        "--method sepa --minimum 2.555 --name Ada --iban DE75512108001245126199",
        f"--method sepa --details-file {__file__}",
        "--method sepa --details-file nosuchfile",
    ):
        said = desk(f"payee set {line} {wrong}", by="maria")
        assert (said.code, said.out) == (1, ""), wrong
        assert "51210800" not in said.err
    both = desk(f"payee set {line} --method sepa --name Ada --details-file {tmp_path / 'ada.json'}")
    assert both.code == 2
    assert desk(f"payee set {line} --method sepa").code == 2
    assert "no version 9" in desk(f"payee approve {line} --version 9", by="omar").err


def test_a_month_is_proposed_approved_sent_and_matched_with_the_bank(
    desk: Desk, database: Database, tmp_path: Path
) -> None:
    """Every verb of a run once, with what a clerk reads off it; at the end books, file and bank side by side."""
    with_payees(desk, tmp_path, "ada", "bob", "cat", "dan", "eve", "gus")
    propose = "payouts propose --period 2025-03 --currency EUR --method sepa"
    shown = ok(desk(propose, by="maria"))
    run = desk.read(f"payouts show {RUN} --payouts --left-out")
    assert f"run {RUN}: proposed" in shown
    assert f"  5 payouts, 280.00 EUR; to transfer 280.00 EUR\n  hash {run['hash']}\n" in shown
    assert re.search(r"^ +1 +1\.00 EUR  less than the minimum", shown, re.MULTILINE)
    assert re.search(r"^ +1 +20\.00 EUR  no payout method", shown, re.MULTILINE)
    assert [(one["affiliate_id"], one["reason"]) for one in run["left_out"]] == [
        ("eve", "below_minimum"), ("fay", "no_payout_method"),
    ]  # fmt: skip
    assert ok(desk(propose, by="maria")) == shown, "the open run again"
    ids = {one["affiliate_id"]: one["payout_id"] for one in run["payouts"]}

    assert "two people" in desk(f"payouts approve {RUN} --hash {run['hash']}", by="maria").err.lower()
    assert "hash" in desk(f"payouts approve {RUN} --hash {'0' * 64}", by="omar").err
    assert desk(f"payouts initiate {RUN}", by="maria").code == 1
    assert "is approved" in ok(desk(f"payouts approve {RUN} --hash {run['hash']}", by="omar"))
    assert "nothing changed" in ok(desk(f"payouts approve {RUN} --hash {run['hash']}", by="omar"))
    ok(desk(f"payouts exclude {ids['gus']}", "--reason", "asked us to wait", by="maria"))
    assert desk(f"payouts render {RUN} --to {tmp_path / 'out'}", by="maria").code == 1
    sent = ok(desk(f"payouts initiate {RUN}", by="maria"))
    assert re.search(r"^initiated +4 +220\.00 +0\.00 +0\.00 +220\.00 +0\.00$", sent, re.MULTILINE)
    assert "proposed by maria, approved by omar" in sent

    rendered = ok(desk(f"payouts render {RUN} --to {tmp_path / 'out'}", by="maria"))
    (file,) = (tmp_path / "out").iterdir()
    digest = sha256(file.read_bytes()).hexdigest()
    assert rendered == f"{file}\n  4 payments, 220.00 EUR, SHA-256 {digest}\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    (again,) = desk.read(f"payouts render {RUN} --to {tmp_path / 'again'} --by maria")["files"]
    assert again == {"path": str(tmp_path / "again" / file.name), "sha256": digest, "count": 4, "control_sum": 220_00}

    assert "is settled" in ok(desk(f"payouts settle {ids['bob']} --fee 1.50", "--reason", "seen online", by="maria"))
    assert "is unknown" in ok(desk(f"payouts mark-unknown {ids['cat']}", "--reason", "timed out", by="maria"))
    assert "is failed" in ok(desk(f"payouts fail {ids['cat']}", "--reason", "the bank says so", by="maria"))
    lines = [("-101,50", ids["ada"], "Überweisung", "1,50"), ("-29,00", ids["dan"], "Überweisung", "")]
    statement = bank_csv(tmp_path / "bank.csv", [*lines, ("-4,90", "", "Entgelt", "")])
    matched = f"reconcile bank {statement} --mapping {BANK}"
    outcomes = ok(desk(matched, by="maria"))
    assert re.search(r"^DE89 •••• 3000 EUR .* 3 +1 +0 +0 +1 +1 +0 +0$", outcomes, re.MULTILINE), outcomes
    assert re.search(rf"{ids['dan']} +30\.00 +29\.00 +EUR", outcomes)
    assert "nothing changed" in ok(desk(matched, by="maria"))
    came_back = bank_csv(tmp_path / "bank2.csv", [("100,00", ids["ada"], "Rücküberweisung", "")])
    (told,) = desk.read(f"reconcile bank {came_back} --mapping {BANK} --by maria")["statements"]
    assert (told["outcomes"], told["unchanged"], told["break_ids"]) == ({"returned": 1}, 0, [])
    day = "-".join(reversed(came_back.read_text().splitlines()[1].split(";")[1].split(".")))
    for verb in ("payouts list", f"payouts show {RUN} --payouts"):
        assert re.search(rf" ada .* returned .* {day}$", ok(desk(verb)), re.MULTILINE), "the bank's day, not UTC's"
    assert "is returned" in ok(desk(f"payouts return {ids['bob']}", "--reason", "account closed", by="maria"))

    three = json.loads(desk(f"payouts three-way {RUN} --json").out)
    assert [(d["name"], d["expected_amount"], d["found_amount"]) for d in three["differences"]] == [
        ("files", 220_00, 220_00), ("settled", 153_00, 130_50), ("returned", 150_00, 100_00),
    ]  # fmt: skip
    assert three["in_transit_amount"] == 30_00
    assert set(three["apart"]) == {ids["bob"], ids["dan"]}
    assert [one["type"] for one in three["open_breaks"]] == ["partial"]
    said = desk(f"payouts three-way {RUN}")
    assert said.code == 1, "a script must notice"
    text = said.out
    assert re.search(r"fees included +bank +153\.00 +130\.50 +-22\.50$", text, re.MULTILINE)
    last = text.splitlines()[-1]
    assert last.startswith(
        "NOT EQUAL: left the account, fees included: 22.50 EUR less by the bank; came back: 50.00 EUR"
    )
    assert "on its way, not seen at the bank: 30.00 EUR" in text
    states = {one["affiliate_id"]: one["status"] for one in desk.read("payouts list")}
    assert states == {"ada": "returned", "bob": "returned", "cat": "failed", "dan": "initiated", "gus": "excluded"}
    assert [one["affiliate_id"] for one in desk.read("payouts list --status initiated")] == ["dan"]
    assert re.search(
        r"gus +EUR +60\.00 +60\.00 +60\.00 +excluded +- +by hand", ok(desk(f"payouts show {RUN} --payouts"))
    )

    (bob,) = (one for one in desk.read("payouts list") if one["affiliate_id"] == "bob")
    assert [one["cancels"] for one in bob["credit_notes"]] == [bob["invoice_number"]]
    year, note = bob["invoice_number"][:4], bob["credit_notes"][0]["number"]
    register = ok(desk(f"invoices {year}"))
    of_bob = rf"^{note} +credit note .* bob +EUR +-50\.00 .* {bob['invoice_number']}$"
    assert re.search(of_bob, register, re.MULTILINE), register
    assert re.search(r"^numbers 1 to \d+, no gap$", register, re.MULTILINE)
    assert f"{note},credit_note,{year}-" in ok(desk(f"invoices {year} --csv"))
    assert ok(desk("invoices 2020")) == "2020 has no numbers yet\n"
    decided = ok(desk("decisions"))
    assert re.search(rf" payout run +{RUN} +approved +maria .* omar .* no$", decided, re.MULTILINE), decided
    assert decided.endswith("none by the person who proposed it\n")

    ok(desk(propose, by="maria"))
    assert "is rejected" in ok(desk("payouts reject 2025-03-EUR-sepa-2", "--reason", "too early", by="omar"))
    assert "because: too early" in ok(desk("payouts show 2025-03-EUR-sepa-2"))
    assert [(r["run_id"], r["status"]) for r in desk.read("payouts runs")] == [
        (RUN, "initiated"), ("2025-03-EUR-sepa-2", "rejected"),
    ]  # fmt: skip

    ok(desk(f"payouts settle {ids['dan']}", "--reason", "1.00 followed", by="maria"))
    with open_ledger(database) as core:
        core.execute("shop", refund("r-1", "o-dan", occurred_at=datetime(2025, 3, 9, tzinfo=UTC)), by())
    debts = desk.read("receivables")
    assert [(one["affiliate_id"], one["amount"], one["age"]) for one in debts["items"]] == [("dan", 30_00, "0-30")]
    assert debts["ageing"] == [{"currency": "EUR", "age": "0-30", "receivable_count": 1, "amount": 30_00}]
    assert re.search(r"^dan +EUR +30\.00 .* 0$", ok(desk("receivables")), re.MULTILINE)


def test_tax_is_data_that_two_people_publish(desk: Desk, tmp_path: Path) -> None:
    """The shipped example can be proposed; a payout run bears what the rule says, and nobody is taxed by a guess."""
    assert "no tax rules" in ok(desk("tax rules show"))
    example = ROOT / "examples" / "tax-rules.toml"
    ok(desk(f"tax rules propose {example}", by="maria"))
    assert desk("tax rules approve --version 1", by="maria").code == 1
    ok(desk("tax rules approve --version 1", by="omar"))
    table = ok(desk("tax rules show"))
    assert "version 1: in force, from 2026-01-01 00:00 UTC" in table or "version 1: published" in table
    assert re.search(r"^DE +business +10\.00 % +0\.00 % ", table, re.MULTILINE)
    rule = {"country": "*", "tax_status": "*", "vat_bps": 0, "withholding_bps": 1000}
    document = json.dumps({"rules": [rule], "effective_from": "2025-01-01T00:00:00Z"})
    (tmp_path / "more.json").write_text(document)
    ok(desk(f"tax rules propose {tmp_path / 'more.json'}", by="maria"))
    assert "is rejected" in ok(desk("tax rules reject --version 2", by="omar"))
    ok(desk(f"tax rules propose {tmp_path / 'more.json'}", by="maria"))
    ok(desk("tax rules approve --version 3", by="omar"))
    assert [one["rules_version"] for one in desk.read("tax rules show")] == [1, 3]

    number = tmp_path / "number"
    number.write_text("DE123456789\n")
    profile = "tax profile --affiliate ada"
    said = ok(desk(f"{profile} --country DE --status business --number-file {number}", by="maria"))
    assert said.startswith("ada: DE, business, •••• 89 (version 1)\nfalls under DE/business of version ")
    odd = desk(f"{profile} --country DE --status busines", by="maria")
    assert "falls under */* of version 1: VAT 0.00 %, withheld 0.00 %" in ok(odd)
    assert "no rule in force names the status busines; they name business, " in odd.err
    ok(desk(f"{profile} --country DE --status business --number-file {number}", by="maria"))
    assert desk.read(profile)["tax_number"] == "•••• 89"
    assert "no tax profile" in desk("tax profile --affiliate bob").err

    with_payees(desk, tmp_path, "ada", "bob")
    run = desk.read("payouts propose --period 2025-03 --currency EUR --method sepa --by maria")
    assert run["payout_count"] == 1, "only ada has a profile"
    assert {one["reason"] for one in run["left_out"]} == {"no_tax_profile", "no_payout_method"}

    for wrong, named in (
        ("[[rules]]\ncountry = 'DE'\ntax_status = '*'\nvat_bps = 0\nwithholding_bps = 0\nnotes = 'x'", "notes"),
        ("rules = 7", "rules"),
        ("not toml", "wrong.toml"),
    ):
        (tmp_path / "wrong.toml").write_text(wrong)
        refused = desk(f"tax rules propose {tmp_path / 'wrong.toml'}", by="maria")
        assert (refused.code, named in refused.err) == (1, True), refused
    assert desk(f"{profile} --country DE").code == 2


def test_what_there_is_can_be_listed_and_notices_sent(
    desk: Desk,
    ledger: Ledger,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Programs, affiliates, offers, exceptions and notices, as tables and as documents without personal data."""
    assert [(one["program"], one["currency"]) for one in json.loads(ok(ledger("programs", "--json")))] == [
        ("shop", "EUR")
    ]
    assert re.search(r"^shop +EUR +Europe/Berlin ", ok(ledger("programs")), re.MULTILINE)
    ok(ledger("affiliate", "enrol", "new", "-p", "shop"))
    assert [one["affiliate_id"] for one in desk.read("affiliates --status applied")] == ["new"]
    assert [one["affiliate_id"] for one in desk.read("affiliates")] == sorted([*OWED, "new"])
    assert re.search(r"^ada +approved$", ok(desk("affiliates")), re.MULTILINE)
    ok(desk("offer publish shoes --flat 12.50 --currency EUR --hold-days 5 --window-days 7"))
    offers = ok(desk("offers"))
    assert re.search(r"^shoes +1 +10\.00 % +1 +30  the beginning +superseded +one person$", offers, re.MULTILINE)
    assert re.search(r"^shoes +2 +12\.50 EUR +5 +7 .* in force +one person$", offers, re.MULTILINE)
    assert [len(one["terms"]) for one in desk.read("offers")] == [2]
    with open_ledger(database) as core:
        core.execute("shop", sale("x-1", offer_id="hats"), by())
    assert [(one["exception_id"], one["type"]) for one in desk.read("exceptions")] == [
        ("conversion:x-1", "unknown_offer")
    ]
    assert re.search(r"^conversion:x-1 +unknown_offer ", ok(desk("exceptions")), re.MULTILINE)
    assert desk.read("exceptions --status resolved") == []

    ok(desk("payee set --affiliate ada --currency EUR --method paypal --email pay@example.com", by="maria"))
    monkeypatch.delenv("LEDGER_SMTP_URL", raising=False)
    assert "LEDGER_SMTP_URL" in desk("notices send").err
    monkeypatch.setenv("LEDGER_MAIL_FROM", "ledger@example.com")
    with MailServer() as server:
        monkeypatch.setenv("LEDGER_SMTP_URL", server.url)
        assert ok(desk("notices send")) == "1 sent, 0 failed\n"
        assert [recipient for recipient, _ in server.taken] == ["ada@example.com"]
    ok(desk("payee withdraw --affiliate ada --currency EUR --version 1"))
    gone = desk("notices send")
    assert (gone.code, gone.out) == (1, "0 sent, 0 failed\n"), "nobody listens there any more"
    assert "connect" in gone.err
    monkeypatch.setenv("LEDGER_SMTP_URL", "gopher://mail")
    assert re.fullmatch(r"ledger: LEDGER_SMTP_URL [^\n]+\n", desk("notices send").err)
    (queued,) = desk.read("notices list --status queued --affiliate ada")
    assert queued["notice_id"] == "payout_method/ada/EUR/1/withdrawn"
    assert "example.com" not in ok(desk("notices list"))


def test_what_cannot_be_done_is_one_line_on_stderr(desk: Desk, ledger: Ledger, tmp_path: Path) -> None:
    """Exit code 1, nothing on stdout, no traceback; wrong usage is exit code 2."""
    (tmp_path / "bank.csv").write_text("a;b\n1;2\n")
    for line in (
        "payouts propose --period 2025-03 --currency EUR --method sepa",  # no account is set
        "payouts propose --period 2025-03 --currency XYZ --method sepa",
        "payouts propose --period 2025-03 --currency EUR --method sepa --as-of 999999",
        "payouts propose --period someday --currency EUR --method manual",
        "payouts approve 2025-03-EUR-sepa-9 --hash 00",
        "payouts reject nonsense --reason x",
        "payouts show 2025-03-EUR-sepa-9",
        "payouts show nonsense",
        "payouts three-way 2025-03-EUR-sepa-9",
        f"payouts render 2025-03-EUR-sepa-9 --to {tmp_path}",
        "payouts settle NONE --reason x --fee 1.50",
        "payouts fail NONE --reason x",
        "payouts exclude NONE --reason x",
        "payee set --affiliate nobody --currency EUR --method paypal --email a@example.com",
        "payee list --affiliate nobody",
        "payee account --currency EUR --show",
        "tax rules approve --version 1",
        "tax profile --affiliate ada --country ZZ --status business",
        f"reconcile bank {tmp_path / 'bank.csv'}",
        f"reconcile bank {tmp_path / 'bank.csv'} --mapping {BANK}",
    ):
        said = desk(line)
        assert (said.code, said.out) == (1, ""), (line, said)
        assert re.search(r"^ledger: [^\n]+\n\Z", said.err, re.MULTILINE), (line, said)
    nowhere = "payouts runs", "payouts list", f"payouts show {RUN}", "receivables", "affiliates", "notices list"
    for line in (*nowhere, "offers", "exceptions", "payee list", "tax rules show", f"payouts three-way {RUN}"):
        said = ledger(*line.split(), "-p", "nowhere")
        assert (said.code, said.out) == (1, ""), (line, said)
        assert "there is no such program" in said.err, line
    for line in (
        "payouts propose --period 2025-03 --currency EUR --method cheque",
        "payouts settle X --reason x --booked-on yesterday",
        "payouts approve X",
        "payee approve --affiliate ada --currency EUR",
    ):
        assert desk(line).code == 2, line
