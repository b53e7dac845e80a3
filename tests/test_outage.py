"""The database goes away under load: links go on, writes say so in time, nothing acknowledged is lost, all comes back.

Real processes: `ledger serve` under load from client threads, on a PostgreSQL that is killed with SIGKILL.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import psycopg
import pytest
from http_support import LANDING, until
from support import MASTER_KEY, by, open_ledger, open_shop

from ledger.domain.offer import PublishOffer
from ledger.store import database as store
from ledger.store.database import Database
from ledger.store.embedded import EmbeddedServer
from ledger.store.migrate import migrate

pytestmark = pytest.mark.impatient

CHECKOUT = Path(__file__).parents[1]
PREFIX = "/v1/programs/shop"
SAYS_503_WITHIN = 2.0  # seconds
IS_BACK_WITHIN = 10.0  # seconds
POSTING, CLICKING = 6, 3  # threads

# Holds the server of a home, and would start it again if it died; killed with it, so that it stays away.
HOLDER = """
import sys
from pathlib import Path
from ledger.store.embedded import EmbeddedServer
EmbeddedServer.start(Path(sys.argv[1]))
print("up", flush=True)
sys.stdin.read()
"""


class Said(NamedTuple):
    """An answer: began and ended are monotonic seconds; status 0: the connection broke."""

    began: float
    ended: float
    status: int
    headers: dict[str, str]
    what: str

    @property
    def seconds(self) -> float:
        return self.ended - self.began


class Api:
    """`ledger serve` in a process of its own."""

    def __init__(self, database: Database, token: str, log: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.token, self._log = token, log
        environment = {
            **os.environ,
            "DATABASE_URL": database.app_url,
            "LEDGER_MASTER_KEY": MASTER_KEY.hex(),
            "LEDGER_TRUSTED_PROXIES": "1",  # so that each click can come from an address of its own
        }
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "ledger.cli", "serve", "--port", str(self.port)],
                cwd=CHECKOUT, env=environment, stdout=output, stderr=subprocess.STDOUT,
            )  # fmt: skip

    def ask(self, method: str, path: str, body: object = None, **headers: str) -> Said:
        """One request on a connection of its own; it is given up after 15 seconds."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=15)
        payload = None if body is None else json.dumps(body)
        began = time.monotonic()
        try:
            connection.request(method, path, payload, {"Content-Type": "application/json", **headers})
            answer = connection.getresponse()
            text = answer.read().decode()
            return Said(began, time.monotonic(), answer.status, dict(answer.headers), text)
        except OSError as problem:
            return Said(began, time.monotonic(), 0, {}, type(problem).__name__)
        finally:
            connection.close()

    def sell(self, order_id: str) -> Said:
        order = {
            "order_id": order_id, "offer_id": "shoes", "amount": 1000, "affiliate_id": "ada",
            "occurred_at": datetime.now(UTC).isoformat(),
        }  # fmt: skip
        said = self.ask("POST", f"{PREFIX}/conversions", order, Authorization=f"Bearer {self.token}")
        return said._replace(what=order_id)

    def follow(self, number: int) -> Said:
        forwarded = f"198.51.{number >> 8 & 255}.{number & 255}"
        said = self.ask("GET", f"{PREFIX}/c/ada/shoes", **{"X-Forwarded-For": forwarded})
        found = re.search(r"[?&]click_id=([\w-]+)", said.headers.get("location", said.headers.get("Location", "")))
        return said._replace(what=found[1] if found else said.what)

    def words(self) -> str:
        """The end of what it printed."""
        return self._log.read_text()[-3000:]


class Load:
    """Clients that sell and click without a pause until stopped."""

    def __init__(self, api: Api, posting: int = POSTING) -> None:
        self.sales: list[Said] = []
        self.clicks: list[Said] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._sell, args=(api, n)) for n in range(posting)]
        self._threads += [threading.Thread(target=self._click, args=(api, n)) for n in range(CLICKING)]

    def _sell(self, api: Api, client: int) -> None:
        number = 0
        while not self._stop.is_set():
            number += 1
            self.sales.append(api.sell(f"{client}-{number}"))

    def _click(self, api: Api, client: int) -> None:
        number = client << 12
        while not self._stop.is_set():
            number += 1
            self.clicks.append(api.follow(number))
            time.sleep(0.005)  # visitors, not a benchmark: the queue has room for an outage of a minute

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)


class Postgres:
    """An embedded server in a home of its own, which can be taken away and brought back."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._hold()
        with EmbeddedServer.start(home) as server:
            store.make_roles(server)
            store.make_database(server, "outage")
            self.database = store.urls(server, "outage")
            assert self.database.owner_url
            migrate(self.database.owner_url)

    def _hold(self) -> None:
        self._holder = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(self.home)], cwd=CHECKOUT, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == "up\n"

    def kill(self) -> None:
        """SIGKILL to the server, and to whoever would start it again."""
        self._holder.kill()
        self._holder.communicate()
        os.kill(int((self.home / "pgdata" / "postmaster.pid").read_text().split()[0]), signal.SIGKILL)

    def freeze(self) -> None:
        """Stop all of the server's processes where they stand: connections stay open, and nobody answers."""
        for pid in self._processes():
            os.kill(pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let them go on."""
        for pid in self._processes():
            os.kill(pid, signal.SIGCONT)

    def _processes(self) -> list[int]:
        """The postmaster, and its children."""
        postmaster = (self.home / "pgdata" / "postmaster.pid").read_text().split()[0]
        found = [int(postmaster)]
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = stat.read_text().rpartition(")")[2].split()
            except OSError:
                continue  # it has just ended
            if fields[1] == postmaster:
                found.append(int(stat.parent.name))
        return found

    def restart(self) -> None:
        """Start it again; returns when it takes connections."""
        self._hold()

    def stop(self) -> None:
        """Leave nothing running."""
        self._holder.kill()
        self._holder.communicate()
        EmbeddedServer.start(self.home).release()


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[Postgres]:
    running = Postgres(tmp_path / "home")
    yield running
    running.stop()


@contextmanager
def served(postgres: Postgres, tmp_path: Path) -> Iterator[Api]:
    """A shop and its API, warm: a sale and a click have gone through."""
    with open_ledger(postgres.database) as ledger:
        open_shop(ledger, "shop")
        ledger.execute("shop", PublishOffer(offer_id="shoes", landing_url=LANDING), by())
        issued = ledger.issue_key(
            "shop", role="ingest", holder="shop-system", holder_kind="system",
            expires_at=datetime.now(UTC) + timedelta(days=365), meta=by(),
        )  # fmt: skip
    api = Api(postgres.database, issued.token, tmp_path / "api.log")
    try:
        until(lambda: api.sell("first").status in (200, 201, 409), seconds=60)
        assert api.follow(0).status == 302, api.words()
        yield api
    finally:
        api.process.terminate()
        try:
            api.process.wait(30)
        except subprocess.TimeoutExpired:
            api.process.kill()
            raise


def recorded(postgres: Postgres, table: str, topic: str, field: str) -> list[str]:
    """What a field of all events of a topic says."""
    assert postgres.database.owner_url
    with psycopg.connect(postgres.database.owner_url) as conn:
        rows = conn.execute(f"SELECT state::jsonb ->> %s FROM {table} WHERE topic = %s", (field, topic)).fetchall()
    return [str(value) for (value,) in rows]


def wait_for(load: list[Said], enough: Callable[[Said], bool], count: int, seconds: float) -> None:
    """Until so many answers are enough."""
    until(lambda: sum(map(enough, list(load))) >= count, seconds)


def test_the_database_goes_away_under_load_and_comes_back(postgres: Postgres, tmp_path: Path) -> None:
    """Links lead on throughout; writes answer 503 within two seconds; every 201 is in the log; service is back
    within ten seconds of the server; and every click that was queued arrives, once."""
    with served(postgres, tmp_path) as api, Load(api) as load:
        wait_for(load.sales, lambda said: said.status == 201, 50, 30)
        wait_for(load.clicks, lambda said: said.status == 302, 20, 30)
        postgres.kill()
        gone = time.monotonic()
        wait_for(load.sales, lambda said: said.status == 503 and said.began > gone, 3 * POSTING, 30)
        wait_for(load.clicks, lambda said: said.began > gone, 100, 30)
        coming = time.monotonic()
        during = [said for said in load.sales if gone < said.began and said.ended < coming]
        postgres.restart()
        back = time.monotonic()
        wait_for(load.sales, lambda said: said.status == 201 and said.began > gone, 1, 60)
        first = min(said.ended for said in load.sales if said.status == 201 and said.began > gone)
        wait_for(load.sales, lambda said: said.status == 201 and said.began > back, 50, 30)
        load.__exit__()

        assert {said.status for said in load.clicks} == {302}, api.words()
        assert {said.status for said in load.sales} == {201, 503}, api.words()
        assert {said.status for said in during} == {503}
        refused = [said for said in load.sales if said.status == 503]
        for said in refused:
            headers = {name.lower(): value for name, value in said.headers.items()}
            assert headers["content-type"] == "application/problem+json"
            assert int(headers["retry-after"]) >= 1
        slowest = max(said.seconds for said in refused)
        assert slowest < SAYS_503_WITHIN, f"a write waited {slowest:.2f} s for its 503"
        assert first - back < IS_BACK_WITHIN, f"back {first - back:.1f} s after the server"

        orders = recorded(postgres, "book_events", "ConversionRecorded", "order_id")
        assert len(orders) == len(set(orders))
        acknowledged = {said.what for said in load.sales if said.status == 201}
        assert acknowledged <= set(orders), "what was acknowledged is in the log"

        followed = {said.what for said in load.clicks}
        until(lambda: followed <= set(recorded(postgres, "traffic_events", "ClickRecorded", "click_id")), 30)
        clicks = recorded(postgres, "traffic_events", "ClickRecorded", "click_id")
        assert len(clicks) == len(set(clicks))


def test_a_database_that_hangs_does_not_hold_up_visitors(postgres: Postgres, tmp_path: Path) -> None:
    """Nothing is closed and nothing answers: the worst way to be down. Links lead on; later every click arrives."""
    with served(postgres, tmp_path) as api:
        postgres.freeze()
        try:
            with Load(api, posting=0) as load:
                wait_for(load.clicks, lambda said: said.status == 302, 300, 30)
        finally:
            postgres.thaw()
        assert {said.status for said in load.clicks} == {302}, api.words()
        followed = {said.what for said in load.clicks}
        until(lambda: followed <= set(recorded(postgres, "traffic_events", "ClickRecorded", "click_id")), 30)


def test_a_service_that_is_stopped_records_its_queued_clicks(postgres: Postgres, tmp_path: Path) -> None:
    """SIGTERM right after a burst: every visitor that was sent on is in the log when the process has ended."""
    with served(postgres, tmp_path) as api:
        followed = {api.follow(number).what for number in range(100)}
        api.process.send_signal(signal.SIGTERM)
        assert api.process.wait(30) is not None
        clicks = recorded(postgres, "traffic_events", "ClickRecorded", "click_id")
        assert followed <= set(clicks)
        assert all(one.startswith("ck1_") for one in followed)
