"""The pages for people (README, CHANGELOG, docs/) as tests read them, and the small program that their requests are
tried on."""

from __future__ import annotations

import re
import shlex
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from conftest import fresh_database
from http_support import serving
from support import by, open_ledger
from werkzeug.serving import make_server

from ledger.application import CommissionLedger
from ledger.domain.affiliate import DecideAffiliate, EnrolAffiliate
from ledger.domain.event import Command
from ledger.domain.offer import PublishOffer, PublishTerms
from ledger.domain.program import OpenProgram
from ledger.domain.recording import RecordConversion
from ledger.store import database as store
from ledger.store.embedded import EmbeddedServer

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
PAGES = [README, ROOT / "CHANGELOG.md", ROOT / "ARCHITECTURE.md", *sorted((ROOT / "docs").glob("*.md"))]
EVERY_PAGE = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
PROGRAM = "demo"  # as the README's addresses have it


def page_of_docs(name: str) -> Path:
    """A page of docs/."""
    return ROOT / "docs" / f"{name}.md"


@cache
def text_of(page: Path) -> str:
    """A page's text."""
    return page.read_text(encoding="utf-8")


@cache
def block_lines(page: Path) -> tuple[str, ...]:
    """The lines of a page's code blocks, fenced or indented; one that ends with a backslash has the next one, too."""
    found: list[str] = []
    fenced, joined = False, ""
    for line in text_of(page).splitlines():
        if line.startswith("```"):
            fenced = not fenced
        elif fenced or line.startswith("    "):
            joined += line.strip()
            if joined.endswith("\\"):
                joined = joined[:-1]
                continue
            found.append(joined)
            joined = ""
    return tuple(found)


@cache
def inline_code(page: Path) -> tuple[str, ...]:
    """What stands between single backquotes in a page's prose and tables."""
    prose = re.sub(r"^```.*?^```", "", text_of(page), flags=re.MULTILINE | re.DOTALL)
    return tuple(" ".join(code.split()) for code in re.findall(r"`([^`]+)`", prose))


def commands_of(page: Path) -> Iterator[tuple[list[str], bool]]:
    """The `ledger` and `run.py` commands a page shows, as words behind the program's name, and whether it stands in a
    block, to be typed as it is."""
    begins = re.compile(r"^(?:[A-Z_]+=\S+ )*(?:ledger|python3 run\.py) ([a-z].*)")
    for shown, is_block in ((block_lines(page), True), (inline_code(page), False)):
        for line in shown:
            if found := begins.match(line):
                yield shlex.split(found[1], comments=True), is_block


# --- a small program behind a real server --------------------------------------------------------------------


class Served(NamedTuple):
    """Where the small program is served, its keys by the name that the pages' shell variables have, the server's
    OpenAPI document, and the paths outside it."""

    port: int
    tokens: dict[str, str]
    openapi: dict[str, Any]
    plain_paths: set[str]


def open_program(ledger: CommissionLedger) -> dict[str, str]:
    """The program of the README's requests, small; returns a token for each of its shell variables."""
    ledger.open_program(OpenProgram(program=PROGRAM, currency="GBP"), by())
    commands: list[Command] = []
    for affiliate_id in ("reviews-01", "deals-02"):
        commands.append(EnrolAffiliate(affiliate_id=affiliate_id))
        commands.append(DecideAffiliate(affiliate_id=affiliate_id, decision="approve"))
    commands.append(PublishOffer(offer_id="shoes"))
    commands.append(PublishTerms(offer_id="shoes", hold_days=30, window_days=30, rate_bps=1000))
    for number in range(3):
        at = datetime(2025, 5, 1 + number, tzinfo=UTC)
        commands.append(
            RecordConversion(
                order_id=f"o-{number}", offer_id="shoes", amount=1970, occurred_at=at, affiliate_id="reviews-01"
            )
        )
    ledger.execute_many(PROGRAM, commands, by())
    people = {
        "MAKER": ("finance_maker", "maria"),
        "CHECKER": ("finance_checker", "omar"),
        "AUDITOR": ("auditor", "eva"),
        "AFFILIATE": ("affiliate", "reviews-01"),
    }
    return {
        name: ledger.issue_key(
            PROGRAM, role=role, holder=holder, holder_kind="person", meta=by(),
            expires_at=datetime.now(UTC) + timedelta(days=1), affiliate_id=holder if role == "affiliate" else "",
        ).token
        for name, (role, holder) in people.items()
    }  # fmt: skip


@contextmanager
def serve_program(server: EmbeddedServer, template: str) -> Iterator[Served]:
    """The API with the small program on a real port."""
    with fresh_database(server, template) as name, open_ledger(store.urls(server, name)) as ledger:
        tokens = open_program(ledger)
        with serving(ledger) as app:
            listening = make_server("127.0.0.1", 0, app, threaded=True)
            thread = threading.Thread(target=listening.serve_forever, daemon=True)
            thread.start()
            try:
                document: dict[str, Any] = app.test_client().get("/openapi.json").get_json()
                plain = {rule.rule for rule in app.url_map.iter_rules() if not rule.arguments}
                yield Served(listening.server_port, tokens, document, plain)
            finally:
                listening.shutdown()
                thread.join()
