"""Payout files: valid for the bank, the same bytes every time, and only ever saying what was ordered."""

from __future__ import annotations

import random
from datetime import timedelta, timezone
from decimal import Decimal
from typing import Any

import msgspec
import pytest
import sepaxml
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree
from payout_file_world import HEADER, IBANS, NS, PAYER, order, sepa_order, transfers

from ledger.domain.errors import InvalidInput
from ledger.payouts.files import check, render
from ledger.payouts.orders import (
    Payer,
    PayoutFileError,
    PayPalPayee,
    SepaPayee,
    is_payout_id,
)
from ledger.payouts.text import identifier, latin

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


def test_payee_errors_are_refusals_of_the_ledger() -> None:
    """The API can show them: they carry a code and a message that names the affiliate."""
    with pytest.raises(PayoutFileError) as caught:
        render(HEADER, [sepa_order(1, iban="DE00")], "sepa")
    assert caught.value.code == "payout_file"
    assert not isinstance(caught.value, InvalidInput)
