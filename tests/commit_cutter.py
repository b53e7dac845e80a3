"""A TCP proxy before PostgreSQL that can lose a COMMIT on its way, or the server's reply to it."""

from __future__ import annotations

import contextlib
import socket
import threading
from types import TracebackType

from psycopg.conninfo import conninfo_to_dict, make_conninfo

COMMIT = b"COMMIT\x00"


class CommitCutter:
    """Forwards bytes between clients and a server. `cut` says what happens to the next COMMIT: 'reply' forwards it,
    waits for the server's reply and cuts the connection instead of passing it on; 'commit' cuts before forwarding."""

    def __init__(self, url: str) -> None:
        settings = {name: str(value) for name, value in conninfo_to_dict(url).items()}
        self._server = (settings["host"], int(settings["port"]))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.cut: str | None = None
        self.cuts = 0
        self._mutex = threading.Lock()
        # Encrypted bytes could not be read on the way.
        settings |= {"host": "127.0.0.1", "port": str(self._listener.getsockname()[1])}
        self.url = make_conninfo("", **(settings | {"sslmode": "disable", "gssencmode": "disable"}))

    def __enter__(self) -> CommitCutter:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._server)
                deaf = threading.Event()  # set: what the server says is dropped
                threading.Thread(target=self._to_server, args=(client, server, deaf), daemon=True).start()
                threading.Thread(target=self._to_client, args=(client, server, deaf), daemon=True).start()

    def _to_server(self, client: socket.socket, server: socket.socket, deaf: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(65536):
                how = self._take(data)
                if how is not None:
                    deaf.set()
                if how == "commit":
                    break
                server.sendall(data)
        _close(server)
        _close(client)

    def _take(self, data: bytes) -> str | None:
        """How to cut, when these bytes hold the COMMIT that was asked for."""
        with self._mutex:
            if COMMIT not in data or self.cut is None:
                return None
            how, self.cut = self.cut, None
            self.cuts += 1
            return how

    def _to_client(self, client: socket.socket, server: socket.socket, deaf: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(65536):
                if deaf.is_set():
                    break
                client.sendall(data)
        _close(client)
        _close(server)


def _close(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    one.close()
