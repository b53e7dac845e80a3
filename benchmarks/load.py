"""The client of the HTTP benchmarks: one process, one thread, many keep-alive connections, each with one request on
its way. Run as `python -m benchmarks.load`, which reads a Load as JSON from standard input and prints a Loaded.

It does as little as it can with a request and with an answer, so that it is not what limits the service.
"""

from __future__ import annotations

import select
import socket
import sys
import time

import msgspec
from msgspec import Struct

PATIENCE_SECONDS = 20.0


class Load(Struct):
    """What to send. request: a whole HTTP/1.1 request in which %(n)012d stands for a number counted up from `first`,
    and %(m)06d for that number modulo `modulo`; expected: the status that each answer must have."""

    port: int
    connections: int
    warm_up_seconds: float
    seconds: float
    request: str
    expected: int
    first: int = 0
    modulo: int = 1


class Loaded(Struct):
    """What came of it. rate: good answers a second after the warm-up; good: all good answers; last: the highest
    number that was sent; busy: the client's own share of a processor, from 0 to 1; bad: a wrong answer."""

    rate: float
    good: int
    last: int
    busy: float
    bad: str = ""


class Client:
    """Sends and counts."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._template = load.request.encode()
        self._head = b"HTTP/1.1 %d " % load.expected
        self._number = load.first
        self._poll = select.poll()
        self._open: dict[int, socket.socket] = {}
        self._received: dict[int, bytes] = {}
        self.good, self.bad = 0, ""

    def run(self) -> Loaded:
        """Warm up, count, and wait for what is still on its way."""
        load = self._load
        for _ in range(load.connections):
            self._connect()
        self._answer_until(time.perf_counter() + load.warm_up_seconds)
        before, began, cpu = self.good, time.perf_counter(), time.process_time()
        self._answer_until(began + load.seconds)
        took = time.perf_counter() - began
        counted, busy = self.good - before, (time.process_time() - cpu) / took
        self._drain()
        return Loaded(counted / took, self.good, self._number - 1, busy, self.bad)

    def _connect(self) -> None:
        sock = socket.create_connection(("127.0.0.1", self._load.port), timeout=PATIENCE_SECONDS)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._open[sock.fileno()] = sock
        self._received[sock.fileno()] = b""
        self._poll.register(sock, select.POLLIN)
        self._send(sock)

    def _send(self, sock: socket.socket) -> None:
        n = self._number
        self._number += 1
        sock.sendall(self._template % {b"n": n, b"m": n % self._load.modulo})

    def _answer_until(self, end: float) -> None:
        """Send the next request on each connection that got its answer."""
        while time.perf_counter() < end and not self.bad:
            for sock in self._answered():
                self._send(sock)

    def _drain(self) -> None:
        """Take the answers to the last requests, so that they do not disturb whoever is measured next."""
        waiting = set(self._open.values())
        while waiting and not self.bad:
            waiting.difference_update(self._answered())
        for sock in self._open.values():
            sock.close()

    def _answered(self) -> list[socket.socket]:
        """The connections on which a whole good answer came."""
        found = []
        ready = self._poll.poll(PATIENCE_SECONDS * 1000)
        if not ready:
            self.bad = f"no answer in {PATIENCE_SECONDS} s"
        for fd, _ in ready:
            sock = self._open[fd]
            data = self._received[fd] + sock.recv(65_536)
            if not _is_whole(data):
                self._received[fd] = data
                if not data:
                    self.bad = "the service closed a connection"
                continue
            self._received[fd] = b""
            if data.startswith(self._head):
                self.good += 1
                found.append(sock)
            else:
                self.bad = data[:500].decode(errors="replace")
        return found


def _is_whole(data: bytes) -> bool:
    """Whether an answer with a Content-Length is complete."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return False
    head = data[:end].lower()
    at = head.find(b"\r\ncontent-length:")
    if at < 0:
        return True
    length = int(head[at + 17 :].split(b"\r\n", 1)[0])
    return len(data) - end - 4 >= length


def main() -> int:
    """Do what standard input says."""
    load = msgspec.json.decode(sys.stdin.buffer.read(), type=Load)
    sys.stdout.buffer.write(msgspec.json.encode(Client(load).run()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
