"""A witness on the loopback that behaves as C2SP tlog-witness says, and badly when a test asks it to."""

from __future__ import annotations

import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger.audit import merkle, notes
from ledger.audit.notes import COSIGNATURE_V1, Checkpoint, VerifierKey


class FakeWitness:
    """key: its verifier key; logs: origin → the newest checkpoint it cosigned; told: each body it was sent; broken:
    how it misbehaves ('' not at all): 500, hang, redirect, wrong_signature, other_key, nothing, huge_size,
    drip_head, drip_body (for half a minute)."""

    def __init__(self) -> None:
        self._private = Ed25519PrivateKey.generate()
        self.key = VerifierKey("witness.example/w", self._private.public_key().public_bytes_raw(), COSIGNATURE_V1)
        self.logs: dict[str, Checkpoint] = {}
        self.told: list[str] = []
        self.broken = ""
        self.url = ""

    def answer(self, body: str) -> tuple[int, str, str]:
        """(status, content type, body) for an add-checkpoint request."""
        self.told.append(body)
        if self.broken == "500":
            return 500, "text/plain", "no"
        if self.broken == "huge_size":
            return 409, "text/x.tlog.size", "9" * 18
        head, _, note = body.partition("\n\n")
        said, *proof = head.split("\n")
        old = int(said.removeprefix("old "))
        text = notes.read_note(note).text
        new = notes.read_checkpoint(text)
        known = self.logs.get(new.origin)
        size = known.size if known else 0
        if old != size:
            return 409, "text/x.tlog.size", f"{size}\n"
        if known and known.size == new.size and known.root != new.root:
            return 409, "text/plain", ""
        try:
            if known:
                hashes = [notes.from_base64(one) for one in proof]
                merkle.verify_consistency(known.size, new.size, hashes, known.root, new.root)
        except merkle.InvalidProof:
            return 422, "text/plain", "fork"
        self.logs[new.origin] = new
        return 200, "text/plain", self._cosign(text)

    def _cosign(self, text: str) -> str:
        seconds = int(time.time())
        signed = notes.cosigned_message(text if self.broken != "wrong_signature" else text + "x", seconds)
        key = self.key._replace(name="somebody.else") if self.broken == "other_key" else self.key
        raw = key.key_id + struct.pack(">Q", seconds) + self._private.sign(signed)
        return "" if self.broken == "nothing" else f"\u2014 {key.name} {notes.to_base64(raw)}\n"


@contextmanager
def fake_witness() -> Iterator[FakeWitness]:
    """A witness that listens."""
    witness = FakeWitness()
    stop = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            if witness.broken == "hang":
                stop.wait(30)
            if witness.broken == "redirect":
                self.send_response(302)
                self.send_header("Location", f"{witness.url}/elsewhere")
                self.end_headers()
                return
            if witness.broken.startswith("drip"):  # the head, or the body: some bytes, but never the end
                self.wfile.write(b"HTTP/1.0 200 OK\r\n" + (b"\r\n" if witness.broken == "drip_body" else b"X: "))
                for _ in range(300):
                    if stop.wait(0.1):
                        break
                    try:
                        self.wfile.write(b"x")
                    except OSError:
                        break
                return
            status, kind, text = witness.answer(body)
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    witness.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield witness
    finally:
        stop.set()
        server.shutdown()
        thread.join()
        server.server_close()
