"""What docs/ say in words and numbers is what the code does: postings, exceptions, settings, limits, export line."""

from __future__ import annotations

import hashlib
import http.client
import json
import re
import uuid
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
from pages import (
    EVERY_PAGE,
    PROGRAM,
    ROOT,
    Served,
    block_lines,
    inline_code,
    open_program,
    page_of_docs,
    serve_program,
    text_of,
)
from support import open_ledger

from api import body, schemas
from api.ratelimit import IPV6_PREFIX_BITS
from api.tracking import BURST, PER_SECOND
from ledger import clickqueue
from ledger.domain.conversion import ConversionRecorded
from ledger.domain.ids import AMOUNT_MAX, program_id, stream_id
from ledger.domain.postings import RULES
from ledger.domain.topics import EVENT_OF, TOPIC_OF
from ledger.projections.rebuild import rebuild
from ledger.store import codec
from ledger.store import database as store
from ledger.store.embedded import EmbeddedServer


@pytest.fixture(scope="module")
def served(server: EmbeddedServer, template: str) -> Iterator[Served]:
    """The small program on a real port."""
    with serve_program(server, template) as found:
        yield found


def test_the_postings_of_finance_are_those_of_the_books() -> None:
    """The table of what each event posts has each event that moves money, and no other."""
    page = text_of(page_of_docs("finance"))
    table = page[page.index("## What each event posts") : page.index("## The life of a conversion")]
    assert set(re.findall(r"^\| `(\w+)`", table, re.MULTILINE)) == {TOPIC_OF[event] for event in RULES}


def test_the_exceptions_of_finance_are_those_that_are_raised() -> None:
    """The table of exceptions has each type that the code can raise, and no other."""
    page = text_of(page_of_docs("finance"))
    table = page[page.index("## Exceptions") : page.index("## Importing")]
    documented = set(re.findall(r"^\| `(\w+)`", table, re.MULTILINE))
    # breaks have types too, of which docs/reconciliation.md speaks
    code = "".join(
        path.read_text()
        for folder in ("domain", "imports")
        for path in (ROOT / "ledger" / folder).rglob("*.py")
        if path.name not in ("bank.py", "breaks.py", "reconcile.py")
    )
    ways = (r'_exception\(\s*\w+,\s*"(\w+)"', r'\btype_?(?:, detail)? ?= ?"(\w+)"', r'CannotPrice\(\s*"(\w+)"')
    raised = {found for way in ways for found in re.findall(way, code)}
    assert documented == raised


@EVERY_PAGE
def test_events_settings_and_metrics_are_called_what_they_are(page: Path, served: Served) -> None:
    """Each event, environment variable and metric that a page names exists under that name."""
    code = "".join(path.read_text() for top in ("ledger", "api") for path in (ROOT / top).rglob("*.py"))
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=20)
    connection.request("GET", "/metrics")
    metrics = connection.getresponse().read().decode()
    connection.close()
    for word in inline_code(page):
        if re.fullmatch(
            r"(Affiliate|Conversion|Commission|Adjustment|Reversal|Exception|Key|Terms|Offer)[A-Z][a-z]+ed", word
        ):
            assert word in EVENT_OF, word
        elif re.fullmatch(r"LEDGER_[A-Z_]+", word):
            assert f'"{word}"' in code or f'"{word.removeprefix("LEDGER_")}"' in code, word
        elif re.fullmatch(r"ledger_(up|log|exceptions|conversions|request|follower)\w*", word):
            assert re.search(rf"^(# HELP )?{word}\b", metrics, re.MULTILINE), word


def test_the_limits_of_operators_are_those_in_force() -> None:
    """The table of limits has the numbers that the code has."""
    page = text_of(page_of_docs("operators"))
    limits = page[page.index("## Limits") : page.index("## Rebuilding")]
    for shown in (
        f"{body.JSON_LIMIT // 1024} KiB ({body.JSON_LIMIT:,} bytes), nested {body.DEEPEST} deep",
        f"{body.NDJSON_LIMIT // 1024**2} MiB, {body.NDJSON_LINES:,} lines",
        f"{schemas.MOST_ITEMS:,} items, {schemas.Page().fields['limit'].load_default} unless asked",
        f"{AMOUNT_MAX:,} minor units",
        f"{PER_SECOND:.0f} a second and {BURST} at once per client address (IPv6: per /{IPV6_PREFIX_BITS})",
        f"| waiting for a connection, a lock | {store.CHECKOUT_TIMEOUT} s each |",
        f"| a statement | {store.STATEMENT_TIMEOUT:.0f} s;",
        f"| an idle transaction | {store.IDLE_IN_TRANSACTION_TIMEOUT:.0f} s |",
        f"| connecting | {store.CONNECT_TIMEOUT} s |",
    ):
        assert shown in limits, shown
    assert store.CHECKOUT_TIMEOUT == store.LOCK_TIMEOUT
    assert f"up to {clickqueue.CAPACITY:,} clicks" in " ".join(page.split())


# --- the export line -------------------------------------------------------------------------------------------


def test_the_worked_example_of_the_export_line() -> None:
    """The line, its length, hash and ids come out as the page says, by hand and by the code that writes the log."""
    page = text_of(page_of_docs("export-line"))
    line = next(shown for shown in block_lines(page_of_docs("export-line")) if shown.startswith('{"v":1')).encode()
    leaf = hashlib.sha256(b"\x00" + line).hexdigest()
    assert f"    {leaf}\n" in page
    assert f"That is {len(line)} bytes" in page
    namespace = uuid.uuid5(uuid.NAMESPACE_URL, "commission-ledger")
    program = uuid.uuid5(namespace, "program:shop")
    order = uuid.uuid5(program, "conversion:A-1001")
    assert f"`{namespace}`" in " ".join(page.split())
    assert f"    {program} {order}\n" in page

    said = json.loads(line)
    state = codec.encode_state(codec.decode_state(said["topic"], json.dumps(said["state"])))
    assert isinstance(codec.decode_state(said["topic"], state), ConversionRecorded)
    recorded_at = codec.instant_text(datetime.fromisoformat(said["recorded_at"]))
    middle = codec.line_middle(
        said["topic"], recorded_at, said["actor"], said["key_id"], said["request_id"], said["cause"]
    )
    prefix = codec.line_prefix(program_id("shop"), said["log"])
    stream = stream_id(program_id("shop"), "conversion:A-1001")
    made = codec.export_line(prefix, said["position"], stream, said["originator_version"], middle, state)
    assert made == line
    assert codec.leaf_hash(made).hex() == leaf
    table = re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)
    assert table == list(said)


# --- clearing away what a rebuild replaced ---------------------------------------------------------------------


def test_the_operators_statement_clears_old_generations(server: EmbeddedServer, database: store.Database) -> None:
    """The SQL that docs/operators.md gives the owner deletes what a rebuild replaced, and nothing that is live."""
    shown = re.search(r"BEGIN;\n(.*?)COMMIT;", text_of(page_of_docs("operators")), re.DOTALL)
    assert shown is not None
    with open_ledger(database) as ledger:
        open_program(ledger)
        report = rebuild(ledger.pool, program_id(PROGRAM))
        assert report.swapped
        owner = store.make_pool(database.owner_url or "", min_size=1, max_size=1, name="owner")
        with owner, owner.connection() as conn:
            for statement in filter(str.strip, shown[1].replace("'ID'", f"'{PROGRAM}'").split(";")):
                conn.execute(statement.encode())
            for table in ("journal", "balances"):
                left = conn.execute(f"SELECT DISTINCT generation FROM {table}".encode()).fetchall()
                assert left == [(report.generation,)], table
