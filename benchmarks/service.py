"""Starting the service in a process of its own, and loading it from another."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection, HTTPException
from typing import NamedTuple

import msgspec

from benchmarks.harness import BenchmarkError, Plan, say
from benchmarks.load import Load, Loaded
from benchmarks.world import META, World

CLIENTS = 32
START_SECONDS = 60.0
STOP_SECONDS = 20.0
TOO_BUSY = 0.9  # share of a processor: above it the client may be what is measured
FAR = datetime.now(UTC) + timedelta(days=365)


class Request(NamedTuple):
    """A request to repeat, as benchmarks.load fills it in. headers: beyond Host."""

    method: str
    path: str
    expected: int
    headers: tuple[str, ...] = ()
    body: str = ""
    modulo: int = 1

    def text(self) -> str:
        """The whole of it. The body is as long for any number, because its places have a fixed width."""
        lines = [f"{self.method} {self.path} HTTP/1.1", "Host: 127.0.0.1", *self.headers]
        if self.body:
            length = len(self.body % {"n": 0, "m": 0})
            lines += ["Content-Type: application/json", f"Content-Length: {length}"]
        return "\r\n".join([*lines, "", self.body])


class Clients:
    """Loads one service after the other; numbers go on counting, so that every order is new."""

    def __init__(self, plan: Plan) -> None:
        self._warm_up, self._seconds = (0.1, 0.25) if plan.quick else (1.0, 4.0)
        self._next = 0
        self.good = 0

    def load(self, port: int, request: Request) -> float:
        """Good answers a second. Raises BenchmarkError for any answer of another status."""
        load = Load(
            port, CLIENTS, self._warm_up, self._seconds, request.text(), request.expected, self._next, request.modulo
        )
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.load"],
            input=msgspec.json.encode(load),
            capture_output=True,
            check=False,
            cwd=World.ROOT,
        )
        if done.returncode != 0:
            raise BenchmarkError(f"the client failed: {done.stderr.decode(errors='replace')[-2000:]}")
        loaded = msgspec.json.decode(done.stdout, type=Loaded)
        if loaded.bad:
            raise BenchmarkError(f"{request.method} {request.path} was answered: {loaded.bad}")
        if loaded.busy > TOO_BUSY:
            say(f"  the client was busy {loaded.busy:.0%} of the time: the service may be faster than this")
        self._next, self.good = loaded.last + 1, self.good + loaded.good
        return loaded.rate


class Ports(dict[str, int]):
    """Ports by mode. pids: of the processes that listen there, by mode."""

    def __init__(self, ports: dict[str, int]) -> None:
        super().__init__(ports)
        self.pids: dict[str, int] = {}

    def pid(self, mode: str) -> int:
        """The process of a mode; its workers are its children."""
        return self.pids[mode]


@contextmanager
def served(world: World, modes: Sequence[str]) -> Iterator[Ports]:
    """The service in some modes, a process each; yields their ports by mode."""
    with ExitStack() as stack:
        ports = Ports({mode: _free_port() for mode in modes})
        processes = [stack.enter_context(_Process(world, mode, port)) for mode, port in ports.items()]
        for process in processes:
            process.wait()
        ports.pids = {mode: process.process.pid for mode, process in zip(ports, processes, strict=True)}
        yield ports


class _Process:
    """A service's process, and the end of what it says on standard error: a service logs its requests."""

    def __init__(self, world: World, mode: str, port: int) -> None:
        self.port = port
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.serve", mode, str(port)],
            env=world.environment(),
            cwd=World.ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        self._said = b""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        while part := self.process.stderr.read1(65_536):  # type: ignore[attr-defined]
            self._said = (self._said + part)[-4_000:]

    def wait(self) -> None:
        """Until it answers. Raises BenchmarkError with its last words when it ends instead."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                self._reader.join(1)
                raise BenchmarkError(f"the service did not start:\n{self._said.decode(errors='replace')}")
            with suppress(OSError, HTTPException):
                connection = HTTPConnection("127.0.0.1", self.port, timeout=2)
                connection.request("GET", "/healthz")
                if connection.getresponse().status == 200:
                    return
            time.sleep(0.05)
        raise BenchmarkError(f"the service did not answer within {START_SECONDS:.0f} s")

    def __enter__(self) -> _Process:
        return self

    def __exit__(self, *exc: object) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._reader.join(1)


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def key_for(world: World, program: str, role: str) -> str:
    """The Authorization header of a new access key."""
    issued = world.ledger.issue_key(
        program, role=role, holder=f"{role}-system", holder_kind="system", expires_at=FAR, meta=META
    )
    return f"Authorization: Bearer {issued.token}"
