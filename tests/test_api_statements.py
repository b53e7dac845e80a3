"""Periods, statements and tax totals over HTTP: as finance closes and as an affiliate and its accountant read them."""

from __future__ import annotations

import csv
import io
import json
import tracemalloc
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from hashlib import sha256
from typing import Any

import openpyxl
import pypdf
import pytest
from conftest import fresh_database
from statement_world import Firm, open_firm
from support import T0, by, owner

from api import create_app
from ledger import presenting
from ledger.domain.dispute import OpenDispute
from ledger.domain.recording import RecordConversion
from ledger.projections import periods
from ledger.store.database import Database, urls
from ledger.store.embedded import EmbeddedServer

JANUARY = "/affiliates/ada/statements/2026-01"


class Api:
    """A firm behind the API, with a key of every role that reads statements."""

    def __init__(self, firm: Firm) -> None:
        self.firm = firm
        self.app = create_app(firm.ledger, {"LOG_REQUESTS": False})
        self.client = self.app.test_client()
        expires_at = firm.clock.now + timedelta(days=3000)
        self.tokens = {
            role: firm.ledger.issue_key(
                firm.program,
                role=role,
                holder=f"{role}-holder",
                holder_kind="person",
                expires_at=expires_at,
                meta=by(),
                affiliate_id="ada" if role == "affiliate" else "",
            ).token
            for role in ("admin", "finance_maker", "finance_checker", "auditor", "affiliate")
        }

    def call(self, role: str, path: str, method: str = "GET", **more: Any) -> Any:
        """The response to a request with the role's key."""
        headers = {"Authorization": f"Bearer {self.tokens[role]}", **more.pop("headers", {})}
        return self.client.open(f"/v1/programs/{self.firm.program}{path}", method=method, headers=headers, **more)

    def get(self, path: str, role: str = "affiliate", **headers: str) -> Any:
        """What a GET answers; headers with underscores for hyphens."""
        return self.call(role, path, headers={name.replace("_", "-"): value for name, value in headers.items()})


@pytest.fixture(scope="module")
def api(server: EmbeddedServer, template: str) -> Iterator[Api]:
    """January is closed and paid, with a line disputed; February is closed, with a late sale; both are in Berlin."""
    with fresh_database(server, template) as name, open_firm(urls(server, name), zone="Europe/Berlin") as firm:
        made = Api(firm)
        firm.register_payees()
        firm.sell("a-1", 100_000)
        firm.sell("=cmd()", 33_330)
        firm.sell("b-1", 50_000, "bob")
        firm.clock.now = datetime(2026, 2, 3, tzinfo=UTC)
        firm.approve_due()
        assert made.call("finance_maker", "/periods/2026-01/close", "POST").status_code == 201
        for row in firm.pay("2026-01"):
            firm.outcome(row.payout_id, "settle", date(2026, 2, 3))
        firm.sell("late", 7_770, at=T0 + timedelta(days=12))
        (line, *_) = firm.lines(firm.statement("ada", "2026-01"))
        firm.do(
            OpenDispute(
                affiliate_id="ada", period="2026-01", position=line.position, line_no=line.line_no, text="twice"
            )
        )
        firm.clock.now = datetime(2026, 3, 2, tzinfo=UTC)
        firm.close("2026-02")
        yield made


# --- periods -------------------------------------------------------------------------------------------------


def test_a_close_answers_what_the_statements_add_up_to(api: Api) -> None:
    """The answer to closing again, the period and the list say the same cut, counts, totals and digest; the digest can
    be computed from the hashes."""
    again = api.call("finance_maker", "/periods/2026-01/close", "POST")
    found = api.get("/periods/2026-01", "auditor").json
    assert (again.status_code, again.json) == (200, found)
    assert (found["status"], found["version"], found["statement_count"], found["late_count"]) == ("closed", 1, 2, 0)
    assert (found["starts_at"], found["ends_at"]) == ("2025-12-31T23:00:00Z", "2026-01-31T23:00:00Z")
    totals = {one["bucket"]: (one["opening"], one["movement"], one["closing"]) for one in found["totals"]}
    assert totals == {"payable": (0, 18_333, 18_333)}
    hashes = [api.firm.statement(who, "2026-01").hash for who in ("ada", "bob")]
    assert found["digest"] == sha256("".join(f"{one}\n" for one in hashes).encode()).hexdigest()
    first = api.get("/periods?limit=1", "auditor").json
    assert [one["period"] for one in first["items"]] == ["2026-02"]
    second = api.get(f"/periods?limit=1&after={first['next']}", "auditor").json
    assert second["next"] is None
    assert second["items"] == [{name: found[name] for name in second["items"][0]}]
    assert api.get("/periods/2026-02", "auditor").json["late_count"] == 1


def test_what_cannot_be_closed_or_reissued_is_refused_with_the_reason(api: Api) -> None:
    """A month that is not over, one that nobody closed, a reissue of a period with a successor, a made-up cursor."""
    early = api.call("finance_maker", "/periods/2026-03/close", "POST")
    assert (early.status_code, "not over until" in early.json["detail"]) == (409, True)
    reissue = {"version": 2, "reason": "late"}
    blocked = api.call("finance_maker", "/periods/2026-01/reissue", "POST", json=reissue)
    assert (blocked.status_code, "later period" in blocked.json["detail"]) == (409, True)
    unexplained = api.call("finance_maker", "/periods/2026-02/reissue", "POST", json={"version": 2})
    assert (unexplained.status_code, unexplained.json["errors"][0]["pointer"]) == (422, "/reason")
    assert api.get("/periods/2031-01", "auditor").status_code == 404
    assert api.get("/periods/2026-01?version=9", "auditor").status_code == 404
    assert api.get("/periods?after=nonsense", "auditor").status_code == 422
    assert api.call("finance_checker", "/periods/2026-02/reissue", "POST", json=reissue).status_code == 403


# --- statements ----------------------------------------------------------------------------------------------


def test_a_client_recomputes_the_hash_from_the_body(api: Api) -> None:
    """The envelope's statement is the hashed bytes, unchanged: cut out of the body, or parsed and written again with
    sorted keys, its SHA-256 is the hash; the canonical form is those bytes alone."""
    answer = api.get(JANUARY)
    assert answer.status_code == 200
    envelope = answer.json
    bytes_ = answer.data[answer.data.index(b'"statement":') + len(b'"statement":') : -1]
    assert sha256(bytes_).hexdigest() == envelope["hash"]
    again = json.dumps(envelope["statement"], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert sha256(again.encode()).hexdigest() == envelope["hash"]
    plain = api.get(f"{JANUARY}?format=canonical")
    assert plain.data == bytes_
    assert plain.headers["ETag"] == f'"{envelope["hash"]}"'
    assert plain.headers["Content-Disposition"] == 'attachment; filename="statement-firm-ada-2026-01-v1.json"'
    (section,) = envelope["statement"]["head"]["sections"]
    assert (section["opening"]["payable"], section["closing"]["payable"]) == (0, 13_333)
    position = envelope["statement"]["lines"][0]["position"]
    assert envelope["open_disputes"] == [{"line_no": 1, "position": position, "status": "open"}]


def test_an_unchanged_statement_is_not_sent_again(api: Api) -> None:
    """With the ETag it had, a reader gets 304, in every form; another form has another ETag."""
    tags = set()
    for query in ("?format=json", "?format=csv", "?format=html&language=de", "?format=html&language=ru"):
        tag = api.get(JANUARY + query).headers["ETag"]
        tags.add(tag)
        same = api.get(JANUARY + query, If_None_Match=tag)
        assert (same.status_code, same.data) == (304, b"")
    assert len(tags) == 4


def test_the_list_has_every_statement_and_its_hash(api: Api) -> None:
    """Newest first, page by page, with the hash that the statement itself shows."""
    first = api.get("/affiliates/ada/statements?limit=1").json
    second = api.get(f"/affiliates/ada/statements?limit=1&after={first['next']}").json
    assert [one["period"] for one in first["items"] + second["items"]] == ["2026-02", "2026-01"]
    assert second["next"] is None
    assert second["items"][0]["hash"] == api.get(JANUARY).json["hash"]
    assert first["items"][0]["sections"][0]["opening"] == second["items"][0]["sections"][0]["closing"]


def test_csv_sums_to_the_statement(api: Api) -> None:
    """The rows of the CSV lead from opening to closing; a hostile order id cannot become a formula."""
    answer = api.get(f"{JANUARY}?format=csv")
    assert answer.content_type.startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert sum(Decimal(row["owed_change"]) for row in rows) == Decimal("133.33")
    assert {row["reference"] for row in rows} == {"a-1", "'=cmd()"}


def test_documents_are_what_they_say_they_are(api: Api) -> None:
    """PDF, XLSX and HTML open as such and show the closing amount; file names are safe; the page can load nothing."""
    document = api.get(f"{JANUARY}?format=pdf&language=de")
    assert (document.content_type, document.data[:5]) == ("application/pdf", b"%PDF-")
    text = " ".join(page.extract_text() for page in pypdf.PdfReader(io.BytesIO(document.data)).pages)
    assert "133,33" in text
    assert document.headers["Content-Disposition"] == 'attachment; filename="statement-firm-ada-2026-01-v1.pdf"'
    book = api.get(f"{JANUARY}?format=xlsx")
    assert openpyxl.load_workbook(io.BytesIO(book.data)).sheetnames
    page = api.get(f"{JANUARY}?format=html")
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'; style-src 'unsafe-inline'; img-src data:" in policy
    assert page.headers["X-Content-Type-Options"] == "nosniff"
    assert page.headers["Content-Disposition"].startswith("inline")
    assert "133.33" in page.text
    assert "Ada &amp; Co &lt;b&gt;" in page.text


def test_a_reader_gets_the_form_and_language_that_it_accepts(api: Api) -> None:
    """Without format and language the Accept headers decide, and JSON and English where they say nothing we have."""
    browser = api.get(JANUARY, Accept="text/html,*/*;q=0.5", Accept_Language="pt-BR,pt;q=0.9")
    assert browser.content_type.startswith("text/html")
    assert '<html lang="pt">' in browser.text
    assert api.get(JANUARY, Accept="image/png").is_json
    assert '<html lang="en">' in api.get(f"{JANUARY}?format=html", Accept_Language="fr").text
    assert '<html lang="ru">' in api.get(f"{JANUARY}?format=html&language=ru", Accept_Language="de").text
    assert set(browser.headers["Vary"].split(", ")) >= {"Accept", "Accept-Language"}


def test_the_name_is_for_the_affiliate_and_admins_and_others_read_nothing(api: Api) -> None:
    """Finance and auditors read a statement without the name; another affiliate's answers as one that is not there."""
    for role in api.tokens:
        shown = "Ada &amp; Co" in api.get(f"{JANUARY}?format=html", role).text
        assert shown == (role in ("admin", "affiliate")), role
    for tail in ("", "/2026-01", "/2026-01?format=pdf", "/2026-01/diff"):
        foreign = api.get(f"/affiliates/bob/statements{tail}")
        assert (foreign.status_code, foreign.json["code"]) == (404, "not_found")
    assert api.get("/affiliates/ada/statements/2026-07").status_code == 404
    assert "version 4" in api.get(f"{JANUARY}?version=4").json["detail"]
    assert api.get(f"{JANUARY}?format=docx").json["errors"][0]["parameter"] == "format"


def test_a_statement_that_does_not_prove_itself_is_not_shown(database: Database) -> None:
    """After somebody changed a line, every form answers 500 and says why, before the first byte."""
    with open_firm(database) as firm:
        firm.sell("a", 10_000)
        firm.clock.advance(days=40)
        firm.close("2026-01")
        api = Api(firm)
        with owner(database) as conn:
            conn.execute("ALTER TABLE journal DISABLE TRIGGER ALL")
            conn.execute("UPDATE journal SET amount = amount + 1")
        for form in ("json", "csv", "pdf"):
            answer = api.get(f"{JANUARY}?format={form}")
            assert (answer.status_code, answer.json["code"]) == (500, "statement_differs")


def test_a_reissue_and_what_it_changed(database: Database) -> None:
    """A new version over HTTP: 201, then 200; the difference has the added line and the bucket; both stay readable."""
    with open_firm(database) as firm:
        firm.sell("a", 10_000)
        firm.clock.advance(days=40)
        firm.close("2026-01")
        api = Api(firm)
        firm.sell("forgotten", 700, at=T0)
        first = api.get(JANUARY).json
        body = {"version": 2, "reason": "the import was late"}
        answers = [api.call("finance_maker", "/periods/2026-01/reissue", "POST", json=body) for _ in range(2)]
        assert [one.status_code for one in answers] == [201, 200]
        assert answers[0].json["version"] == 2
        found = api.get(f"{JANUARY}/diff?from=1&to=2").json
        assert found["before"] == {"version": 1, "hash": first["hash"]}
        assert [line["reference"] for line in found["lines"]] == ["forgotten"]
        assert found["changes"] == [{"currency": "GBP", "bucket": "pending", "before": 1000, "after": 1070}]
        assert api.get(f"{JANUARY}/diff").json == found
        assert api.get(f"{JANUARY}?version=1").json == first
        assert api.get(f"{JANUARY}/diff?from=2&to=1").status_code == 422
        assert [one["version"] for one in api.get("/affiliates/ada/statements").json["items"]] == [2, 1]


def test_a_big_statement_is_streamed(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """6,000 lines come in many pieces, and making them never holds more than a part of them."""
    monkeypatch.setattr(periods, "LINES_AT_ONCE", 100)
    monkeypatch.setattr(presenting, "LINES_AT_ONCE", 100)
    monkeypatch.setattr(presenting, "MEMORY_MOST", 20_000)
    with open_firm(database) as firm:
        sales = [
            RecordConversion(
                order_id=f"order-{n:06}", offer_id="shoes", amount=1_000, affiliate_id="ada", occurred_at=T0
            )
            for n in range(6_000)
        ]
        firm.ledger.execute_many(firm.program, sales, by())
        del sales
        firm.clock.advance(days=40)
        firm.close("2026-01")
        api = Api(firm)
        api.get(f"{JANUARY}?version=1&format=html")  # what is loaded once
        for form in ("json", "html"):
            tracemalloc.start()
            answer = api.client.get(
                f"/v1/programs/firm{JANUARY}?format={form}",
                headers={"Authorization": f"Bearer {api.tokens['affiliate']}"},
                buffered=False,
            )
            pieces = size = 0
            for piece in answer.response:
                pieces += 1
                size += len(piece)
            _, most = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            answer.close()
            assert pieces > 10
            assert most < size * 2 / 3, f"{form}: {most:,} bytes held for {size:,}"


# --- tax -----------------------------------------------------------------------------------------------------


def test_a_years_totals_by_affiliate_and_quarter(api: Api) -> None:
    """What the bank booked in February, with VAT and withholding, in the first quarter and the year."""
    found = api.get("/tax/years/2026", "auditor").json
    assert (found["year"], found["zone"]) == (2026, "Europe/Berlin")
    ada, bob = found["items"]
    assert (ada["affiliate_id"], ada["country"], ada["tax_status"], ada["currency"]) == ("ada", "DE", "business", "GBP")
    paid = {"payout_count": 1, "returned_count": 0, "gross_amount": 13_333, "vat_amount": 2_533}
    assert ada["total"] == ada["quarters"][0] == {**paid, "withholding_amount": 0, "transferred_amount": 15_866}
    assert (bob["total"]["withholding_amount"], bob["total"]["transferred_amount"]) == (750, 4_250)
    assert all(not any(quarter.values()) for quarter in bob["quarters"][1:])
    assert api.get("/tax/years/2025", "auditor").json["items"] == []
    assert api.get("/tax/years/3", "auditor").status_code == 422


def test_tax_numbers_are_in_the_csv_of_finance_only(api: Api) -> None:
    """The maker's and checker's CSV has the numbers, defused where a spreadsheet would run them; the auditor's has no
    such column; admins and affiliates may not ask."""
    for role in ("finance_maker", "finance_checker"):
        answer = api.get("/tax/years/2026?format=csv", role)
        rows = {row["affiliate_id"]: row for row in csv.DictReader(io.StringIO(answer.text))}
        assert (rows["ada"]["tax_number"], rows["bob"]["tax_number"]) == ("DE123", "'=7")
        assert (rows["ada"]["transferred_amount"], rows["ada"]["q1_vat_amount"]) == ("158.66", "25.33")
    auditors = api.get("/tax/years/2026", "auditor", Accept="text/csv")
    assert "tax_number" not in auditors.text
    assert "DE123" not in auditors.text
    assert {api.get("/tax/years/2026", role).status_code for role in ("admin", "affiliate")} == {403}
