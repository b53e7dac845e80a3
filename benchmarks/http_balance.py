"""GET balance over HTTP: beside the least that an endpoint can ask the database, and in a small program."""

from __future__ import annotations

from benchmarks.harness import Comparison, Plan, Row, checkpoint, race
from benchmarks.service import Clients, Request, key_for, served
from benchmarks.world import AFFILIATES, World

WORK = "32 clients, GET balance over HTTP with 1,000,000 entries in the program"
COMPARISONS = (
    Comparison(WORK, "large", "an endpoint doing a pooled SELECT 1", "select 1", 0.7, "requests/s"),
    Comparison(WORK, "large", "the same with 1,000 entries", "small", 0.9, "requests/s"),
)
SELECT_1 = Request("GET", "/bench/select-1", 200)


def measure(world: World, plan: Plan) -> list[Row]:
    """The rows about GET balance."""
    large = _get_balance(world, world.program_with_books(plan.size(1_000_000, 400)))
    small = _get_balance(world, world.program_with_books(plan.size(1_000, 200)))
    clients = Clients(plan)
    with served(world, ("coalesced",)) as ports:
        port = ports["coalesced"]
        contenders = {
            "large": lambda: clients.load(port, large),
            "select 1": lambda: clients.load(port, SELECT_1),
            "small": lambda: clients.load(port, small),
        }
        return race(contenders, COMPARISONS, plan, checkpoint(world.server.superuser_url))


def _get_balance(world: World, program: str) -> Request:
    """Each request asks for another affiliate."""
    path = f"/v1/programs/{program}/affiliates/affiliate-%(m)02d/balance"
    return Request("GET", path, 200, (key_for(world, program, "auditor"),), modulo=AFFILIATES)
