"""What banks send is read exactly, or refused with a reason; a booking has one id in whatever file it stands."""

from __future__ import annotations

import logging
from collections import Counter
from contextlib import suppress
from datetime import date
from pathlib import Path
from random import Random

import pytest
from fake_bank import FakeBank, Form, Refused, Timeout
from lxml import etree

from ledger.domain import money
from ledger.payouts import bank
from ledger.payouts.bank import BankFileError, BankLine, BankStatement, read_statement
from ledger.payouts.bankcsv import BankCsvMapping, load_bank_mapping

SAMPLES = Path(__file__).parent / "bank_samples"
EXAMPLE = Path(__file__).parent.parent / "examples" / "bank-csv.toml"
V02 = (SAMPLES / "camt053_v02.xml").read_text(encoding="utf-8")
GERMAN = (SAMPLES / "mt940_german.sta").read_bytes().decode()
DUTCH = (SAMPLES / "mt940_dutch.sta").read_text(encoding="utf-8")


def read(text: str | bytes, mapping: BankCsvMapping | Path | None = None) -> list[BankStatement]:
    """The statements of a file that is called january.txt."""
    data = text if isinstance(text, bytes) else text.encode()
    return read_statement(data, mapping=mapping, name="january.txt")


def refused(text: str | bytes, mapping: BankCsvMapping | Path | None = None) -> str:
    """The message with which a file is refused; it names the file."""
    with pytest.raises(BankFileError) as found:
        read(text, mapping)
    assert "january.txt" in str(found.value)
    return found.value.message


def short(line: BankLine) -> tuple[int, str, str, str, int]:
    """What matching looks at."""
    return line.amount, line.end_to_end_id, line.bank_reference, line.kind, line.charges


def replaced(text: str, old: str, new: str) -> str:
    """A sample with one difference."""
    assert text.count(old) >= 1, old
    return text.replace(old, new, 1)


# --- camt.053 ------------------------------------------------------------------------------------------------


def test_a_german_camt_of_version_2_is_read() -> None:
    """A batch becomes its payments, a return is one, charges inside an amount are seen, what is pending is left out."""
    (statement,) = read_statement(SAMPLES / "camt053_v02.xml")
    assert [short(line) for line in statement.lines] == [
        (-10000, "po-2026-01-0001", "BATCH0601", "payment", 0),
        (-5050, "po-2026-01-0002", "BATCH0601", "payment", 0),
        (10000, "po-2025-12-0044", "RET0601", "return", 0),
        (-12150, "po-2026-01-0003", "WIRE0601", "payment", 150),
        (-490, "", "", "fee", 0),
        (680, "", "IN0601", "payment", 0),
    ]
    assert (statement.account, statement.currency) == ("DE58740618130100033626", "EUR")
    assert (statement.opening_amount, statement.closing_amount) == (-3306, -20316)
    assert {line.booking_on for line in statement.lines} == {date(2026, 1, 6)}
    assert statement.lines[2].value_on == date(2026, 1, 7)
    assert (statement.booked_from, statement.booked_until) == (date(2026, 1, 6), date(2026, 1, 6))
    assert statement.lines[0].text == "po-2026-01-0001 Commission; January; Ada Lovelace; SAMMELUEBERWEISUNG"
    assert "RF18539007547034" in statement.lines[5].text
    assert "Konto geschlossen" in statement.lines[2].text
    assert statement.notes == ["1 entries that are not booked yet were left out"]
    assert len({line.line_id for line in statement.lines}) == 6


def test_several_accounts_and_currencies_stand_in_one_file() -> None:
    """Any namespace prefix; yen have no decimals and dinars three; without a closing balance a note says so."""
    yen, dinar = read_statement(SAMPLES / "camt053_v08_accounts.xml")
    assert (yen.account, yen.currency, yen.opening_amount, yen.closing_amount) == (
        "0001-234-5678901", "JPY", 500000, 487655,
    )  # fmt: skip
    assert [short(line) for line in yen.lines] == [(-12345, "po-jp-1", "0007", "payment", 0)]
    assert yen.lines[0].text == "Hanako"
    assert yen.lines[0].value_on is None
    assert (dinar.account, dinar.currency, dinar.closing_amount) == ("BH67BMAG00001299123456", "BHD", None)
    assert [short(line) for line in dinar.lines] == [(-1234, "po-bh-1", "BH77", "other", 0)]
    assert dinar.lines[0].booking_on == date(2026, 2, 3)
    assert "not checked" in dinar.notes[0]


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (">50.50<", ">50.49<", "entry 1 (BATCH0601): its 2 transactions (TxDtls) add up to -15049 minor units"),
        (">203.16<", ">203.17<", "closing balance is -203.17 EUR"),
        (">4.90<", ">4.905<", "entry 4: amount: has more than 2 decimals"),
        (">4.90<", ">-4.90<", "must have no sign"),
        (">4.90<", ">4,90<", "must be a decimal number such as 49.90"),
        (">4.90<", "><", "must be a decimal number such as 49.90"),
        ('"EUR">4.90<', '"USD">4.90<', "is in USD, but the account is in EUR"),
        ('"EUR">4.90<', '"EURO">4.90<', "ISO 4217"),
        ("<Sts>PDNG</Sts>", "<Sts>MAYBE</Sts>", "entry 6: the status (Sts) must be BOOK"),
        ("<BookgDt><Dt>2026-01-06</Dt></BookgDt>", "", "BookgDt must hold a date such as 2026-01-31"),
        ("<Dt>2026-01-06</Dt></BookgDt>", "<Dt>2026-02-30</Dt></BookgDt>", "BookgDt must hold a date"),
        ("<CdtDbtInd>CRDT</CdtDbtInd>", "<CdtDbtInd>CREDIT</CdtDbtInd>", "CdtDbtInd must be CRDT or DBIT"),
        ("<IBAN>DE58740618130100033626</IBAN>", "", "names no account"),
        ("<Ccy>EUR</Ccy>", "<Ccy>CHF</Ccy>", "must have one currency"),
        ("<BkToCstmrStmt>", "<BkToCstmrAcctRpt>", "camt.052"),
        ("<Document ", "<Rechnung ", "no camt.053"),
        ("</Document>", "", "not well-formed XML"),
        ('encoding="UTF-8"', 'encoding="KLINGON"', "encoding"),
        ("Ada Lovelace", "Ada\x01Lovelace", "line 40, column"),
    ],
)
def test_a_wrong_camt_is_refused_with_its_place(old: str, new: str, says: str) -> None:
    """The message names the entry and what would be right, and nothing personal."""
    message = refused(replaced(V02, old, new))
    assert says in message
    assert "Ada" not in message


@pytest.mark.parametrize(
    "document",
    [
        '<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]>',
        '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>',
        '<!DOCTYPE x [<!ENTITY % a SYSTEM "http://127.0.0.1:9/x"> %a;]>',
        '<!DOCTYPE x SYSTEM "http://127.0.0.1:9/x.dtd">',
    ],
)
def test_bombs_and_external_entities_are_refused(document: str) -> None:
    """A statement with a document type is not opened any further, whatever it would define."""
    attack = replaced(V02, "?>\n", f"?>\n{document}\n")
    assert "document type" in refused(replaced(attack, "Ada Lovelace", "Ada") if "a;&" not in document else attack)


def test_a_deep_pile_of_elements_is_refused() -> None:
    """So that no stack overflows."""
    assert "64 deep" in refused(replaced(V02, "<GrpHdr>", "<GrpHdr>" + "<a>" * 5000 + "</a>" * 5000))


def test_what_is_not_text_in_the_named_encoding_is_refused() -> None:
    """Broken UTF-8 in XML, MT940 and CSV; a UTF-16 MT940; nothing is replaced by question marks."""
    assert "encoding" in refused(V02.encode("iso-8859-1"))
    assert "control character" in refused(GERMAN.encode("utf-16-le").replace(b":\x00", b":20:", 1))
    csv = (SAMPLES / "bank_german.csv").read_bytes()
    assert "line 3: is not utf-8" in refused(csv.replace("Rück".encode(), "Rück".encode("cp1252")), EXAMPLE)
    assert "no mapping" not in refused(b"\x89PNG\r\n\x1a\n", EXAMPLE)


def test_charges_that_are_not_inside_the_amount_are_not_counted() -> None:
    """ChrgInclInd false: the fee has its own line. Nothing said and nothing to tell by: a note says so."""
    record = (
        '<Chrgs><Rcrd><Amt Ccy="EUR">1.50</Amt><CdtDbtInd>DBIT</CdtDbtInd><ChrgInclInd>{}</ChrgInclInd></Rcrd></Chrgs>'
    )
    old = '<Chrgs><Amt Ccy="EUR">1.50</Amt><CdtDbtInd>DBIT</CdtDbtInd></Chrgs>'
    for included, charges in (("true", 150), ("1", 150), ("false", 0)):
        (statement,) = read(replaced(V02, old, record.format(included)))
        assert statement.lines[3].charges == charges
    (statement,) = read(V02.replace(">120.00<", ">121.50<"))
    assert statement.lines[3].charges == 0
    assert any("entry 3 (WIRE0601): charges are told" in note for note in statement.notes)


def test_a_batch_without_its_payments_is_noted() -> None:
    """It cannot be matched, and a person should know why."""
    start, end = V02.index("          <TxDtls>"), V02.index("        </NtryDtls>")
    (statement,) = read(V02[:start] + V02[end:])
    assert short(statement.lines[0]) == (-15050, "", "BATCH0601", "payment", 0)
    assert any("batch of 2 without its payments" in note for note in statement.notes)


def test_an_entry_that_reverses_our_payment_is_a_return() -> None:
    """RvslInd: the money is back. A reversed credit is neither a payment nor a return."""
    back = "<RvslInd>true</RvslInd><Sts>BOOK</Sts>"
    (statement,) = read(V02.replace("<Sts>BOOK</Sts>", back))
    assert [line.kind for line in statement.lines] == ["other", "other", "return", "other", "other", "return"]


def other_parse(data: bytes) -> Counter[tuple[str, str, str, str]]:
    """Account, direction, amount text and end-to-end id of every transaction, read with another parser by XPath."""
    found: Counter[tuple[str, str, str, str]] = Counter()
    root = etree.fromstring(data)
    for entry in root.xpath("//*[local-name()='Ntry'][*[local-name()='Sts'][normalize-space(.)='BOOK']]"):
        (account,) = entry.xpath("../*[local-name()='Acct']//*[local-name()='IBAN']/text()")
        for detail in entry.xpath("*[local-name()='NtryDtls']/*[local-name()='TxDtls']"):
            amount = detail.xpath("string(*[local-name()='Amt'])")
            direction = detail.xpath("string(*[local-name()='CdtDbtInd'])")
            end_to_end = detail.xpath("string(.//*[local-name()='EndToEndId'])")
            found[account, direction, amount, end_to_end.replace("NOTPROVIDED", "")] += 1
    return found


# --- MT940 ---------------------------------------------------------------------------------------------------


def test_a_german_mt940_is_read() -> None:
    """Ids across subfields, reversals with their direction, a year that turns, and the statement's own text ignored."""
    first, second = read_statement(SAMPLES / "mt940_german.sta")
    assert [short(line) for line in first.lines] == [
        (-10000, "po-2025-12-0017-with-a--35-char-id", "POS 11", "payment", 0),
        (10000, "po-2025-12-0005", "POS 12", "return", 0),
        (-490, "", "", "fee", 0),
        (2500, "po-2025-12-0006", "POS 14", "return", 0),
        (-1000, "", "POS 15", "other", 0),
    ]
    assert [line.booking_on.isoformat() for line in first.lines] == [
        "2025-12-31", "2026-01-02", "2025-12-31", "2026-01-02", "2026-01-02",
    ]  # fmt: skip
    assert first.lines[2].value_on == date(2026, 1, 2)
    assert (first.opening_amount, first.closing_amount, first.currency) == (100000, 101010, "EUR")
    assert (first.account, first.statement_id) == ("74061813/0100033626", "STARTUMSE 00001/001")
    assert "ADA LOVELACE" in first.lines[0].text
    assert not any("NOT OF ANY LINE" in line.text for line in first.lines)
    assert second.lines == []
    assert (second.booked_from, second.booked_until) == (date(2026, 1, 5), date(2026, 1, 5))


def test_a_dutch_mt940_is_read() -> None:
    """/EREF/ before or after the remittance, slashes inside; where two stand, none is believed and a note says so."""
    (statement,) = read_statement(SAMPLES / "mt940_dutch.sta")
    assert [short(line) for line in statement.lines] == [
        (-7750, "po/2026/01/0001", "00000000001005", "payment", 0),
        (7750, "po-2026-01-0002", "00000000001006", "return", 0),
        (-300, "po-2026-01-0003", "00000000001007", "payment", 50),
        (100, "", "00000000001008", "payment", 0),
    ]
    assert statement.notes == ["line 16: the end-to-end id (EREF) is not clear, so none was read"]


@pytest.mark.parametrize(
    ("sample", "old", "new", "says"),
    [
        (GERMAN, "DR4,90NCHG", "DR4,91NCHG", "statement 1 (line 1): opening balance 1000.00 + booked lines 10.09"),
        (GERMAN, "DR4,90NCHG", "DR4,905NCHG", "line 11: amount: has more than 2 decimals"),
        (GERMAN, "DR4,90NCHG", "DR4.90NCHG", "line 11: a line (:61:) must be"),
        (GERMAN, "DR4,90NCHG", "DR490NCHG", "an amount with a comma"),
        (GERMAN, "DR4,90NCHGNONREF", "DR4,90", "line 11: a line (:61:) must be"),
        (GERMAN, "2601021231DR", "2613021231DR", "the value date must be a day"),
        (GERMAN, "2601021231DR", "2601021331DR", "the booking date must be a day"),
        (GERMAN, ":25:74061813/0100033626", ":21:X", "names no account (:25:)"),
        (GERMAN, "C251231EUR1000,00", "X251231EUR1000,00", "line 4: :60F: must be C or D"),
        (GERMAN, "C251231EUR1000,00", "C251231USD1000,00", "must have one currency"),
        (GERMAN, ":20:STARTUMSE\r\n:25", ":25", "stands before the statement's first field"),
        (GERMAN, ":28C:00001/001", ":28C:one", "is no MT940"),
        (GERMAN, ":62F:C260102", ":62A:C260102", "line 17: :62A: must be"),
        (GERMAN, ":28C:00001/001", ":28C:1\r\n:60F:C251231EUR1,00", ":60F: is given twice"),
    ],
)
def test_a_wrong_mt940_is_refused_with_its_place(
    sample: str, old: str, new: str, says: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The message names the line and what would be right; the library does not log what it could not read."""
    with caplog.at_level(logging.DEBUG):
        message = refused(replaced(sample, old, new))
    assert says in message
    assert "LOVELACE" not in message + caplog.text


def test_an_interim_report_is_refused() -> None:
    """MT942 has no balances, and its lines may change."""
    report = ":20:X\n:25:NL69INGB0123456789\n:28C:1\n:34F:EUR0,\n:61:2601050105D1,00NTRFNONREF\n:90D:1EUR1,00\n-\n"
    assert "MT942" in refused(report)


def test_an_mt940_that_is_not_utf_8_is_read_with_a_note() -> None:
    """Many banks write ISO 8859-1; ids and amounts do not depend on it."""
    statement = read(GERMAN.replace("Kontof}hrung", "Kontoführung").encode("iso-8859-1"))[0]
    assert "Kontoführung" in statement.lines[2].text
    assert "ISO 8859-1" in statement.notes[0]


def test_a_value_of_30_february_is_noted() -> None:
    """Banks that count 30 days a month write it; a booking date like that is refused."""
    statement = read(replaced(GERMAN, "2601021231DR", "2602301231DR"))[0]
    assert statement.lines[2].value_on == date(2026, 2, 28)
    assert any("260230" in note for note in statement.notes)
    assert "value date" in refused(replaced(GERMAN, "2601021231DR", "260230DR"))


@pytest.mark.parametrize(("currency", "amount", "minor"), [("JPY", "12345,", -12345), ("BHD", "1,234", -1234)])
def test_mt940_amounts_have_their_currency_s_decimals(currency: str, amount: str, minor: int) -> None:
    """Yen none, dinars three."""
    (statement,) = read(f":20:X\n:25:A\n:28C:1\n:61:260105D{amount}NTRFNONREF\n:62F:D260105{currency}9,\n-\n")
    assert (statement.lines[0].amount, statement.currency) == (minor, currency)
    assert statement.lines[0].booking_on == date(2026, 1, 5)


# --- CSV -----------------------------------------------------------------------------------------------------


def test_the_example_mapping_reads_a_german_bank_s_csv() -> None:
    """Thousands separators, a sign at the end, a quoted cell, two accounts, charges, a byte order mark."""
    euro, yen = read_statement(SAMPLES / "bank_german.csv", mapping=EXAMPLE)
    assert [short(line) for line in euro.lines] == [
        (-123450, "po-2026-01-0007", "0105A7", "payment", 0),
        (123450, "po-2026-01-0007", "0106B1", "return", 0),
        (-1200, "", "0106C1", "fee", 0),
        (-10150, "po-2026-01-0008", "0106D1", "payment", 150),
    ]
    assert euro.lines[1].text == 'Konto "zu"; Provision; Ada GmbH'
    assert euro.lines[1].value_on is None
    assert [short(line) for line in yen.lines] == [(-12345, "po-jp-1", "0106E1", "payment", 0)]
    assert (euro.booked_from, euro.booked_until) == (date(2026, 1, 5), date(2026, 1, 6))


PREAMBLE = """
[file]
encoding = "cp1252"
skip_lines = 2
thousands_separator = ","
[columns]
booking_date = "Date"
debit = "Money out"
credit = "Money in"
bank_reference = "Ref"
text = ["Description"]
[constants]
account = "GB-1"
currency = "GBP"
[end_to_end_id]
pattern = 'EREF: (\\S+)'
"""


def test_debit_and_credit_columns_and_an_id_within_the_text(tmp_path: Path) -> None:
    """An id in the text is found; a text with two has none, and a note says so."""
    (tmp_path / "m.toml").write_text(PREAMBLE)
    (statement,) = read_statement(SAMPLES / "bank_preamble.csv", mapping=tmp_path / "m.toml")
    assert [short(line) for line in statement.lines] == [
        (-123450, "po-1", "R1", "other", 0),
        (900, "", "R2", "other", 0),
    ]
    assert any("line 5: the text holds several end-to-end ids" in note for note in statement.notes)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("05.01.2026;05", "2026-01-05;05", "line 2, column 'Buchungstag': must be a date in the form %d.%m.%Y"),
        ("-1.234,50", "-1234.50", "line 2, column 'Betrag': must be a number such as 1.234,50"),
        ("-1.234,50", "-1.23,50", "column 'Betrag': must be a number"),
        ("-1.234,50", "1e3", "column 'Betrag': must be a number"),
        ("-1.234,50", "-1.234,505", "has more than 2 decimals"),
        (";EUR;", ";Euro;", "line 2, column 'Währung': must be an ISO 4217"),
        ("Ada GmbH;", "Ada GmbH", "line 2: has 10 columns where the heading names 11"),
        ("Betrag;", "Betrag in EUR;", "line 1: column 'Betrag' is missing; the file's columns are: Auftragskonto"),
        ('Provision";', "Provision;", "line 3: is not well-formed CSV"),
    ],
)
def test_a_wrong_csv_is_refused_with_its_place(old: str, new: str, says: str) -> None:
    """The message names line and column, and never what a cell holds."""
    text = (SAMPLES / "bank_german.csv").read_bytes().decode()
    message = refused(replaced(text, old, new), EXAMPLE)
    assert says in message
    assert "Ada" not in message


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('skip_lines = 2\nthousands_separator = ","', 'thousands_separator = "."', "file.thousands_separator"),
        ('debit = "Money out"\n', "", "needs both debit and credit"),
        ('account = "GB-1"\n', "", "columns.account"),
        ('"GBP"', '"GPB"', "constants.currency"),
        ("(\\S+)", "\\S+", "one group"),
        ("(\\S+)", "(", "one group"),
        ("skip_lines", "skip", "unknown field `skip`"),
        ('"cp1252"', '"klingon"', "file.encoding"),
        ("[file]", '[file]\ndate_format = "%d"', "file.date_format"),
        ("[file]", "[file", "m.toml"),
    ],
)
def test_a_wrong_mapping_is_refused(tmp_path: Path, old: str, new: str, says: str) -> None:
    """The message names the mapping's file and the setting."""
    (tmp_path / "m.toml").write_text(replaced(PREAMBLE, old, new))
    with pytest.raises(BankFileError, match=r"m\.toml") as found:
        load_bank_mapping(tmp_path / "m.toml")
    assert says in found.value.message


# --- any file ------------------------------------------------------------------------------------------------


def test_a_file_that_is_no_statement_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Empty, packed, missing, unknown, or too large."""
    assert "is empty" in refused(b" \n")
    assert "unpack it first" in refused(b"PK\x03\x04rest")
    assert "a CSV file needs a mapping" in refused("Date;Amount\n")
    with pytest.raises(BankFileError, match=r"nowhere\.xml: No such file"):
        read_statement(tmp_path / "nowhere.xml")
    monkeypatch.setattr(bank, "FILE_MAX", 1 << 20)
    (tmp_path / "large.xml").write_bytes(V02.encode() + b" " * (1 << 20))
    with pytest.raises(BankFileError, match=r"large\.xml: is larger than 1 MiB"):
        read_statement(tmp_path / "large.xml")


@pytest.mark.parametrize("sample", sorted(SAMPLES.iterdir()), ids=lambda path: path.name)
def test_a_damaged_file_is_read_or_refused(sample: Path) -> None:
    """Whatever a file holds, the answer is statements or a BankFileError, and never another error."""
    outcomes = Counter[bool]()
    for seed in range(80):
        chance, data = Random(seed), bytearray(sample.read_bytes())
        at = chance.randrange(len(data))
        damage = chance.choice(
            (b"", b"\xff", b"\x00", b"?", b",", b"\n:61:", b"\n:86:", b"<", b'"', data[at : at + 40])
        )
        data[at : at + chance.randrange(3)] = damage
        try:
            read_statement(bytes(data), mapping=EXAMPLE)
            outcomes[True] += 1
        except BankFileError:
            outcomes[False] += 1
    assert outcomes[False] > 20


def test_a_line_keeps_its_id() -> None:
    """The same booking in another file, with another text or statement number, has the same id; with another
    reference, date, amount, end-to-end id or account it has another."""
    original = read(GERMAN)[0].lines[0].line_id
    first = ":61:2512311231DR100,00NTRFNONREF//POS 11"
    for old, new in (
        ("ADA LOVELACE", "A. LOVELACE"),
        ("00001/001", "00077/001"),
        ("NTRFNONREF//POS 11", "NTRFX//POS 11"),
    ):
        assert read(replaced(GERMAN, old, new))[0].lines[0].line_id == original
    for old, new in (
        (first, first.replace("POS 11", "POS 99")),
        (first, first.replace("1231D", "1230D")),
        ("po-2025-12-0017", "po-2025-12-0018"),
        (":25:74061813/", ":25:74061814/"),
    ):
        assert read(replaced(GERMAN, old, new))[0].lines[0].line_id != original
    assert len(original) == 40


def test_lines_alike_in_everything_are_counted_within_a_file() -> None:
    """Two fees of one day without a reference are two; the next file that repeats them and has a third adds one."""
    fee = V02[
        V02.index('      <Ntry>\n        <Amt Ccy="EUR">4.90') : V02.index('      <Ntry>\n        <Amt Ccy="EUR">6.80')
    ]

    def fees(count: int) -> list[str]:
        text = V02.replace(fee, fee * count).replace(">203.16<", f">{198.26 + 4.9 * count:.2f}<")
        return [line.line_id for line in read(text)[0].lines if line.kind == "fee"]

    one, two, three = fees(1), fees(2), fees(3)
    assert len(set(three)) == 3
    assert three[:2] == two
    assert two[:1] == one


# --- the fake bank -------------------------------------------------------------------------------------------


def busy_bank(seed: int, count: int) -> tuple[FakeBank, dict[str, tuple[int, str]]]:
    """A bank with orders in three currencies, each submitted until it says something."""
    fake = FakeBank(seed)
    orders = {f"po-2026-01-{at:05}": (1000 + 7 * at, ("EUR", "JPY", "BHD")[at % 3]) for at in range(count)}
    for at, (payout_id, order) in enumerate(orders.items()):
        if at % 50 == 49:
            fake.next_day()
        try:
            fake.submit(payout_id, *order)
        except Timeout:
            continue
    return fake, orders


def test_the_fake_bank_s_files_say_the_same_in_three_formats() -> None:
    """Ids and all that matching looks at agree between camt, MT940 and CSV, and with what the bank knows; another
    parser finds the same in the camt."""
    fake, _ = busy_bank(7, 400)
    days = fake.run_out()
    known: dict[str, BankLine] = {}
    repeats = 0
    for day in days:
        found: list[set[BankLine]] = []
        forms: tuple[Form, ...] = ("camt", "mt940", "csv")
        for form in forms:
            if form == "csv" and not fake.told(day):
                continue
            lines = [line for part in read_statement(fake.statement(day, form), mapping=EXAMPLE) for line in part.lines]
            assert len(lines) == len(fake.told(day))
            found.append({structs_without_text(line) for line in lines})
        assert all(lines == found[0] for lines in found)
        told = Counter(
            (
                line.amount,
                line.currency,
                line.end_to_end_id,
                line.bank_reference,
                line.kind,
                line.charges,
                line.booking_on,
            )
            for line in fake.told(day)
        )
        assert told == Counter(
            (
                line.amount,
                line.currency,
                line.end_to_end_id,
                line.bank_reference,
                line.kind,
                line.charges,
                line.booking_on,
            )
            for line in found[0]
        )
        seen = Counter(
            (
                "DE89370400440532013000",
                "DBIT" if line.amount < 0 else "CRDT",
                money.major_units(abs(line.amount), line.currency),
                line.end_to_end_id,
            )
            for line in found[0]
        )
        assert seen == other_parse(fake.statement(day))
        repeats += sum(line.line_id in known for line in found[0])
        known |= {line.line_id: line for line in found[0]}
    assert repeats > 5
    for currency in ("EUR", "JPY", "BHD"):
        assert sum(line.amount for line in known.values() if line.currency == currency) == fake.total(currency)


def structs_without_text(line: BankLine) -> BankLine:
    """A line without what each format words differently."""
    return BankLine(**{name: getattr(line, name) for name in line.__struct_fields__ if name != "text"}, text="")


def test_the_fake_bank_pays_once_and_says_what_it_did() -> None:
    """Its truth is what its lines say: one payment for each paid or returned payout, none for the others; it
    misbehaves as promised, and a resubmitted order is refused or paid once."""
    fake, orders = busy_bank(3, 600)
    unclear = timed_out = 0
    for payout_id, order in orders.items():
        try:
            fake.submit(payout_id, *order)
        except Timeout:
            timed_out += 1
        except Refused:
            pass
        with suppress(Timeout):
            unclear += fake.query(payout_id) == "unknown"
    days = fake.run_out()
    lines = [line for day in days for line in fake.booked(day)]
    paid = Counter(line.end_to_end_id for line in lines if line.kind == "payment")
    returned = Counter(line.end_to_end_id for line in lines if line.kind == "return")
    assert fake.truth.keys() == orders.keys()
    for payout_id, fate in fake.truth.items():
        assert (paid[payout_id], returned[payout_id]) == {"paid": (1, 0), "returned": (1, 1), "never": (0, 0)}[fate]
    for line in lines:
        if line.kind == "payment":
            assert -line.amount - line.charges == orders[line.end_to_end_id][0]
    fates = Counter(fake.truth.values())
    assert min(fates.values()) >= 5
    assert 0.2 < timed_out / len(orders) < 0.4
    assert unclear > 5
    assert any(line.charges for line in lines)
    assert sum(fake.fees(currency) for currency in ("EUR", "JPY", "BHD")) > 0


def test_the_fake_bank_is_the_same_for_the_same_seed() -> None:
    """And another for another."""
    one, same, other = (busy_bank(seed, 200)[0] for seed in (5, 5, 6))
    days = one.run_out()
    same.run_out()
    other.run_out()
    assert [one.statement(day) for day in days] == [same.statement(day) for day in days]
    assert one.truth != other.truth
