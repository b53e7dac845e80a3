"""The API over real HTTP: granian in a process of its own, on wsgi.py as it is."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from api_world import World, make_world, open_service, sale
from conftest import fresh_database

from api import create_app
from ledger.store.database import StartupRefused, urls
from ledger.store.embedded import EmbeddedServer

Said = tuple[int, Any, dict[str, str]]
ROOT = Path(__file__).resolve().parent.parent


@contextmanager
def granian(database_url: str) -> Iterator[int]:
    """A serving process; yields its port once it answers."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    environment = {**os.environ, "DATABASE_URL": database_url, "LEDGER_MASTER_KEY": (b"k" * 32).hex()}
    command = [sys.executable, "-m", "granian", "--interface", "wsgi", "--port", str(port), "--blocking-threads", "16"]
    process = subprocess.Popen([*command, "wsgi:app"], cwd=ROOT, env=environment, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                if ask(port, "GET", "/healthz")[0] == 200:
                    break
            except OSError:
                assert time.monotonic() < deadline, "it did not start"
                assert process.poll() is None, "it ended"
                time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.wait(30)


def ask(port: int, method: str, path: str, body: Any = None, **headers: str) -> Said:
    """(status, JSON, headers) of one request."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request(method, path, body, headers, encode_chunked=headers.get("Transfer-Encoding") == "chunked")
        answer = connection.getresponse()
        text = answer.read()
        found = json.loads(text) if "json" in answer.headers.get("Content-Type", "") and b"\n" not in text else text
        return answer.status, found, {name.lower(): value for name, value in answer.headers.items()}
    finally:
        connection.close()


class Served:
    """A world and the port at which another process serves it."""

    def __init__(self, world: World, port: int) -> None:
        self.world, self.port = world, port

    def ask(
        self, role: str, method: str, path: str, body: Any = None, **headers: str
    ) -> tuple[int, Any, dict[str, str]]:
        """A request with a role's key."""
        raw = json.dumps(body).encode() if isinstance(body, dict) else body
        headers = {"Authorization": f"Bearer {self.world.tokens[role]}", "Content-Type": "application/json", **headers}
        return ask(self.port, method, f"/v1/programs/{self.world.program}{path}", raw, **headers)


@pytest.fixture(scope="module")
def served(server: EmbeddedServer, template: str) -> Iterator[Served]:
    with fresh_database(server, template) as name, open_service(urls(server, name)) as app:
        world = make_world(app)
        with granian(urls(server, name).app_url) as port:
            yield Served(world, port)


def test_fifty_parallel_sends_of_one_sale(served: Served) -> None:
    """One event, and fifty answers with the same body: one 201, the others 200."""
    before = served.world.books_position()
    with ThreadPoolExecutor(50) as threads:
        answers = list(threads.map(lambda _: served.ask("ingest", "POST", "/conversions", sale("twin")), range(50)))
    assert sorted(status for status, _, _ in answers) == [200] * 49 + [201]
    assert all(body == answers[0][1] for _, body, _ in answers)
    assert served.world.books_position() == before + 2  # the sale and its commission


def test_many_different_sales_at_once_each_fail_or_succeed_alone(served: Served) -> None:
    """Coalesced into shared commits, bad ones are refused and good ones kept."""
    bodies = [sale(f"mixed-{n}") if n % 3 else sale("clash", amount=n + 1) for n in range(60)]
    with ThreadPoolExecutor(20) as threads:
        answers = list(threads.map(lambda body: served.ask("ingest", "POST", "/conversions", body), bodies))
    statuses = [status for status, _, _ in answers]
    assert statuses.count(201) == 40 + 1
    assert statuses.count(409) == 19
    positions = {body["position"] for status, body, _ in answers if status == 201}
    assert len(positions) == 41


def test_an_encoded_slash_survives_the_server(served: Served) -> None:
    """%2F, // and a leading slash in an id reach the right record through a real server."""
    for order_id, path in (("a/b", "a%2Fb"), ("/c//d/", "%2Fc%2F%2Fd%2F"), ("x/hold", "x%2Fhold"), ("ü%", "%C3%BC%25")):
        assert served.ask("ingest", "POST", "/conversions", sale(order_id))[0] == 201
        status, story, _ = served.ask("auditor", "GET", f"/conversions/{path}")
        assert (status, story["order_id"]) == (200, order_id)
        status, held, _ = served.ask("finance_maker", "POST", f"/conversions/{path}/hold", b"")
        assert (status, held["order_id"]) == (200, order_id)


def test_bodies_of_unknown_length(served: Served) -> None:
    """A chunked body is read and limited as any other; it is never taken for an empty one."""
    chunked = {"Transfer-Encoding": "chunked"}
    raw = json.dumps(sale("chunked")).encode()
    status, body, _ = served.ask("ingest", "POST", "/conversions", iter([raw[:50], raw[50:]]), **chunked)
    assert (status, body["order_id"]) == (201, "chunked")
    flood = (b" " * 1000 for _ in range(200))
    status, body, _ = served.ask("ingest", "POST", "/conversions", flood, **chunked)
    assert (status, body["code"]) == (413, "too_large")
    status, body, _ = served.ask("finance_maker", "POST", "/conversions/chunked/hold", iter([b'{"odd":1}']), **chunked)
    assert (status, body["errors"][0]["pointer"]) == (422, "/odd")


def test_what_is_not_http_as_it_should_be(served: Served) -> None:
    """Garbage, header injections, wrong lengths: an error or a closed connection, and the server goes on."""
    for raw in (
        b"\x00\x01\x02\r\n\r\n",
        b"GET /healthz HTTP/9.9\r\n\r\n",
        b"POST /v1/programs/x/conversions HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"POST /v1/programs/x/conversions HTTP/1.1\r\nHost: x\r\nContent-Length: 1e3\r\n\r\n",
        b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Request-Id: a\x00b\r\n\r\n",
        b"GET /%zz%00%ff?%zz=%ff HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"GET /v1/programs/x/offers?limit=%ff HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    ):
        with socket.create_connection(("127.0.0.1", served.port), timeout=20) as connection:
            said = b""
            with suppress(ConnectionError, OSError):  # it may have closed already
                connection.sendall(raw)
                connection.shutdown(socket.SHUT_WR)
                said = connection.recv(200)
        assert not said.startswith(b"HTTP/1.1 5"), (raw[:50], said)
    assert ask(served.port, "GET", "/healthz")[0] == 200


def test_the_log_streams_over_a_connection(served: Served) -> None:
    """The stream of events is as long as the log and every line of it is JSON in order."""
    status, raw, headers = served.ask("auditor", "GET", "/events", Accept="application/x-ndjson")
    assert (status, headers["content-type"]) == (200, "application/x-ndjson")
    positions = [json.loads(line)["position"] for line in raw.splitlines()]
    assert positions == list(range(1, served.world.books_position() + 1))


def test_it_starts_and_stays_up_while_the_database_is_down() -> None:
    """With a database that does not answer the service starts: alive, not ready, and 503 for who asks for books."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        nobody = free.getsockname()[1]
    with granian(f"postgresql://ledger_app:x@127.0.0.1:{nobody}/ledger") as port:
        assert ask(port, "GET", "/healthz")[0] == 200
        status, body, headers = ask(port, "GET", "/readyz")
        assert (status, body["code"]) == (503, "unavailable")
        assert headers["retry-after"]
        bearer = {"Authorization": f"Bearer clk_{'0' * 16}_{'x' * 43}"}
        began = time.monotonic()
        status, body, headers = ask(port, "GET", "/v1/programs/shop/offers", **bearer)
        assert (status, body["code"]) == (503, "unavailable")
        assert time.monotonic() - began < 10


def test_it_refuses_a_database_that_would_not_keep_its_promises(
    server: EmbeddedServer, template: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Connected as a superuser, whom no rule binds, the service does not start, and says why."""
    monkeypatch.setenv("DATABASE_URL", server.superuser_url)
    monkeypatch.setenv("LEDGER_MASTER_KEY", (b"k" * 32).hex())
    with pytest.raises(StartupRefused, match="superuser"):
        create_app()
