"""A person who left a trace in every field that may be personal, and was erased: what the tests of erasure share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from backup_world import env_of
from flask import Flask
from statement_world import Firm
from support import MASTER_KEY, PROGRAM, T0, Clock, by, program_id, trial
from werkzeug.test import TestResponse

from api import create_app
from ledger import erasing
from ledger.application import CommissionLedger
from ledger.backup.taking import take_backup
from ledger.domain import dispute
from ledger.domain.access import ROLES
from ledger.domain.adjustment import DecideAdjustment, ProposeAdjustment
from ledger.domain.affiliate import DecideAffiliate, EnrolAffiliate
from ledger.domain.click import PERSONAL_FIELDS as CLICK_FIELDS
from ledger.domain.click import RecordClick
from ledger.domain.dispute import AnswerDispute, DecideDispute, OpenDispute
from ledger.domain.erasure import ProposeErasure
from ledger.domain.errors import WrongState
from ledger.domain.lifecycle import DecideConversion
from ledger.domain.outcomes import DecidePayout
from ledger.domain.payout_method import DecidePayoutMethod, ProposePayoutMethod
from ledger.domain.resolution import ResolveException
from ledger.domain.reversal import RecordReversal
from ledger.domain.tax import RecordTaxProfile
from ledger.payouts import payees
from ledger.projections import payouts
from ledger.store import known
from ledger.store.database import Database, make_pool
from ledger.store.erased import file_beside
from ledger.store.vault import Secrets

WHO = "eve"
CANARY = "kanarienvogel"
IBAN = "GB29NWBK60161331926819"
MAIL = f"{CANARY}@example.com"
MONTH = "2026-01"
STAFF = tuple(role for role in ROLES if role not in ("affiliate", "ingest"))


def canary(what: str) -> str:
    """A text that is found again wherever it went."""
    return f"{CANARY} é {what}"


def pay_to(firm: Firm, affiliate_id: str, currency: str, method: str, details: dict[str, str]) -> None:
    """A payout method, by two people."""
    id_ = program_id(firm.program)
    checked = payees.check_details(method, details, currency)
    fingerprint = payees.fingerprint(id_, method, checked, firm.ledger.secrets.fingerprint_key(id_))
    common: dict[str, Any] = {"affiliate_id": affiliate_id, "currency": currency, "fingerprint": fingerprint}
    firm.do(ProposePayoutMethod(method=method, minimum_amount=100, details=checked, **common))
    firm.do(DecidePayoutMethod(method_version=1, approve=True, **common), "ben")


def tell(firm: Firm) -> str:
    """Say something personal in every field about eve, and a name of bob's; eve earns and is paid. Returns the id of
    her payout, which is on its way."""
    firm.do(EnrolAffiliate(affiliate_id=WHO, display_name=canary("name"), email=MAIL, note=canary("note")))
    for decision in ("approve", "suspend", "reinstate"):
        firm.do(DecideAffiliate(affiliate_id=WHO, decision=decision, reason=canary(decision)))
    pay_to(firm, WHO, "GBP", "paypal", {"email": MAIL})
    pay_to(firm, WHO, "EUR", "wise", {"name": canary("payee"), "iban": IBAN})
    firm.do(RecordTaxProfile(affiliate_id=WHO, country="GB", tax_status="person", tax_number=canary("tax number")))
    personal: dict[str, Any] = {field: canary(field) for field in CLICK_FIELDS}
    clicks = [
        RecordClick(
            click_id=f"k{n}", affiliate_id=WHO, offer_id="shoes", occurred_at=T0 + timedelta(days=n), **personal
        )
        for n in (0, 40)
    ]
    for who, order_id in ((WHO, "A"), (WHO, "B"), ("bob", "C")):
        firm.sell(order_id, 100_000, who, T0)
    for decision in ("hold", "release"):
        firm.do(DecideConversion(order_id="A", decision=decision, reason=canary(decision)))
    firm.do(DecideConversion(order_id="B", decision="reject", reason=canary("reject")))
    firm.do(ProposeAdjustment(adjustment_id="j1", affiliate_id=WHO, kind="bonus", amount=500, reason=canary("bonus")))
    firm.do(DecideAdjustment(adjustment_id="j1", approve=True), "ben")
    firm.do(RecordReversal(reversal_id="r1", order_id="A", sale_amount=900_000, occurred_at=T0))
    firm.do(ResolveException(exception_id="reversal:r1", action="dismiss", reason=canary("dismiss")))
    firm.clock.now = datetime(2026, 2, 12, tzinfo=UTC)
    firm.ledger.record_clicks(firm.program, clicks, by())
    firm.approve_due()
    firm.close(MONTH)
    line = firm.lines(firm.statement(WHO, MONTH))[0]
    firm.do(
        OpenDispute(
            affiliate_id=WHO, period=MONTH, position=line.position, line_no=line.line_no, text=canary("dispute")
        )
    )
    id_ = dispute.id_of(MONTH, WHO, line.position, line.line_no)
    firm.do(AnswerDispute(dispute_id=id_, text=canary("answer")))
    firm.do(DecideDispute(dispute_id=id_, accept=False, text=canary("decision")))
    (row,) = [one for one in firm.pay(MONTH) if one.affiliate_id == WHO]
    firm.do(DecidePayout(payout_id=row.payout_id, outcome="mark_unknown", reason=canary("unknown")))
    return row.payout_id


class World(NamedTuple):
    """Eve was backed up (early), and erased with January's clicks by ana and ben; then backed up again (late).
    list_: of erased subjects, beside known. before: what everybody saw before. refused: what was said while something
    was open."""

    firm: Firm
    app: Flask
    database: Database
    tokens: dict[str, str]
    payout_id: str
    early: Path
    late: Path
    known: Path
    before: Seen
    refused: list[str]

    @property
    def list_(self) -> Path:
        return file_beside(self.known)

    def call(self, role: str, method: str, path: str, **more: Any) -> TestResponse:
        """A request with a key of a role; the one who decides is another person than the one who proposes."""
        headers = {"Authorization": f"Bearer {self.tokens[role]}", **more.pop("headers", {})}
        where = f"/v1/programs/{PROGRAM}{path}"
        return self.app.test_client().open(where, method=method, headers=headers, **more)

    def see(self) -> Seen:
        """What everybody sees now."""
        return Seen(trial(self.firm.ledger), leaves(self.firm.ledger), self.views())

    def views(self) -> dict[str, tuple[int, bytes]]:
        """role and address → status and body, of everything that may be read about eve and the program."""
        found = {}
        document: Any = self.app.test_client().get("/openapi.json").json
        for path, methods in document["paths"].items():
            if "get" in methods and path.startswith("/v1/programs/{program}"):
                may = [role for role in STAFF if role in methods["get"]["x-roles"]][:2]
                path = self._filled(path.removeprefix("/v1/programs/{program}"))
                places = [f"{role} {path}" for role in may if "{" not in path]
                if path.endswith(f"/statements/{MONTH}"):
                    places += [f"admin {path}?format={one}" for one in ("html", "csv", "xlsx", "pdf")]
                for place in places:
                    role, _, where = place.partition(" ")
                    answer = self.call(role, "GET", where)
                    found[place] = (answer.status_code, answer.data)
        return found

    def _filled(self, path: str) -> str:
        with self.firm.ledger.reading(PROGRAM) as (cur, id_):
            run_id = payouts.page(cur, id_, "", 10)[0].run_id
            cur.execute("SELECT record_id FROM directory WHERE program_id = %s AND kind = 'dispute'", (id_,))
            ((dispute_id,),) = cur.fetchall()
        values = {
            "affiliate_id": WHO, "period": MONTH, "year": "2026", "order_id": "A", "adjustment_id": "j1",
            "exception_id": "reversal:r1", "payout_id": self.payout_id, "run_id": run_id, "dispute_id": dispute_id,
            "offer_id": "shoes", "currency": "GBP", "subject": f"affiliate:{WHO}",
        }  # fmt: skip
        for name, value in values.items():
            path = path.replace(f"{{{name}}}", value.replace("#", "%23"))
        return path


class Seen(NamedTuple):
    """The trial balance, every leaf hash, and what everybody read over HTTP."""

    trial: dict[tuple[str, str], int]
    leaves: list[bytes]
    views: dict[str, tuple[int, bytes]]


def leaves(ledger: CommissionLedger) -> list[bytes]:
    """Every leaf hash of both logs."""
    with ledger.reading(PROGRAM) as (cur, id_):
        cur.execute("SELECT leaf_hash FROM book_events WHERE program_id = %s ORDER BY position", (id_,))
        books = [bytes(leaf) for (leaf,) in cur]
        cur.execute("SELECT leaf_hash FROM traffic_events WHERE program_id = %s ORDER BY position", (id_,))
        return books + [bytes(leaf) for (leaf,) in cur]


@contextmanager
def make_world(database: Database, folder: Path) -> Iterator[World]:
    """The whole story, told once for a module of tests."""
    with make_pool(database.app_url, min_size=1, max_size=6, name="erasure") as pool:
        clock = Clock()
        ledger = CommissionLedger(pool, Secrets(MASTER_KEY), clock)
        known_file = folder / "known.json"
        config = {"LOG_REQUESTS": False, "ERASED_SUBJECTS_FILE": file_beside(known_file)}
        app = create_app(ledger, config)
        firm = Firm(ledger, clock, PROGRAM)
        firm.register_payees(taxed=False)
        payout_id = tell(firm)
        tokens = {role: issue(firm, role, f"{role}-person") for role in STAFF}
        refused = [ask(firm)]
        firm.do(DecideAffiliate(affiliate_id=WHO, decision="close", reason=canary("close")))
        late_sale(firm)
        key = firm.ledger.issue_key(
            PROGRAM, role="affiliate", holder="eve-key", holder_kind="person", affiliate_id=WHO,
            expires_at=clock.now + timedelta(days=90), meta=by(),
        )  # fmt: skip
        refused.append(ask(firm))
        firm.ledger.revoke_key(PROGRAM, key.key_id, by())
        firm.do(ResolveException(exception_id="conversion:late", action="dismiss", reason=canary("too late")))
        firm.do(DecidePayout(payout_id=payout_id, outcome="settle", reason=canary("settled")))
        take_backup(env_of(database), folder / "early")
        world = World(
            firm, app, database, tokens, payout_id, folder / "early", folder / "late", known_file,
            Seen({}, [], {}), refused,
        )  # fmt: skip
        world = world._replace(before=world.see())
        for subject in (f"affiliate:{WHO}", f"traffic:{MONTH}"):
            asked = {"subject": subject, "ground": "request" if WHO in subject else "retention"}
            assert world.call("finance_maker", "POST", "/erasures", json=asked).status_code == 201
            done = world.call("finance_checker", "POST", f"/erasures/{subject}/approve")
            assert (done.status_code, done.json["status"] if done.json else "") == (200, "erased"), done.text
        known.record_known_positions(ledger.pool, known_file)
        take_backup(env_of(database), folder / "late")
        yield world


def issue(firm: Firm, role: str, holder: str) -> str:
    """A key's token."""
    expires_at = firm.clock.now + timedelta(days=300)
    return firm.ledger.issue_key(
        PROGRAM, role=role, holder=holder, holder_kind="person", expires_at=expires_at, meta=by()
    ).token


def late_sale(firm: Firm) -> None:
    """A sale for somebody who is closed is kept as an exception."""
    firm.sell("late", 5000, WHO, firm.clock.now)


def ask(firm: Firm) -> str:
    """What is said to whoever proposes to erase eve."""
    try:
        erasing.propose(firm.ledger, PROGRAM, ProposeErasure(subject=f"affiliate:{WHO}", ground="request"), by())
    except WrongState as refusal:
        return refusal.message
    raise AssertionError("it was proposed")
