"""Conversions over HTTP, one a request: what sharing commits brings, what executing costs, what validating costs."""

from __future__ import annotations

from benchmarks.harness import BenchmarkError, Comparison, Plan, Row, checkpoint, race
from benchmarks.service import Clients, Request, key_for, served
from benchmarks.world import BATCH, META, OFFER, START, World, affiliate_of, must_be_recorded
from ledger.domain.click import RecordClick
from ledger.domain.ids import program_id

WORK = "32 clients, one conversion a request over HTTP, one program, one worker"
CHECKED = "32 clients, the same endpoint's validation only"
COMPARISONS = (
    Comparison(WORK, "coalesced", "the same with coalescing off", "alone", 4.0, "requests/s"),
    Comparison(WORK, "coalesced", "the same endpoint stopping after validation", "validation", 0.5, "requests/s"),
    Comparison(CHECKED, "validation", "/healthz", "healthz", 0.4, "requests/s"),
)
HEALTHZ = Request("GET", "/healthz", 200)


def measure(world: World, plan: Plan) -> list[Row]:
    """The rows about POST /conversions."""
    program, clicks = world.open_program("http"), plan.size(10_000, 1_000)
    _record_clicks(world, program, clicks)
    post = Request(
        "POST",
        f"/v1/programs/{program}/conversions",
        201,
        (key_for(world, program, "ingest"),),
        f'{{"order_id":"order-%(n)012d","offer_id":"{OFFER}","amount":12345,"currency":"GBP",'
        '"occurred_at":"2026-01-03T12:34:56Z","click_id":"click-%(m)06d"}',
        clicks,
    )
    clients, others = Clients(plan), Clients(plan)
    with served(world, ("coalesced", "alone", "validation")) as ports:
        contenders = {
            "coalesced": lambda: clients.load(ports["coalesced"], post),
            "alone": lambda: clients.load(ports["alone"], post),
            "validation": lambda: others.load(ports["validation"], post),
            "healthz": lambda: others.load(ports["validation"], HEALTHZ),
        }
        rows = race(contenders, COMPARISONS, plan, checkpoint(world.server.superuser_url))
    _must_be_stored(world, program, clients.good)
    return rows


def _record_clicks(world: World, program: str, count: int) -> None:
    for start in range(0, count, BATCH):
        batch = [
            RecordClick(click_id=f"click-{n:06d}", affiliate_id=affiliate_of(n), offer_id=OFFER, occurred_at=START)
            for n in range(start, min(start + BATCH, count))
        ]
        must_be_recorded(world.ledger.record_clicks(program, batch, META))


def _must_be_stored(world: World, program: str, answered: int) -> None:
    """As many conversions accrued as were answered with 201. Raises BenchmarkError."""
    with world.pool.connection() as conn:
        row = conn.execute(
            "SELECT count(*) FROM conversions WHERE program_id = %s AND status = 'pending'", (program_id(program),)
        ).fetchone()
    if row is None or row[0] != answered:
        raise BenchmarkError(f"{answered} conversions were answered with 201, and {row} are stored")
