"""Verbs for operators: serve, migrate, bench."""

from __future__ import annotations

import errno
import logging
import multiprocessing
import socket
import sys
from importlib import import_module
from pathlib import Path

import click

from ledger.service import open_service
from ledger.store import migrate as migrations
from ledger.store.database import open_database

ROOT = Path(__file__).resolve().parents[2]
HOST, PORT = "127.0.0.1", 8080
THREADS = 64  # a worker's
STOP_SECONDS = 30
BACKLOG = 256  # requests a worker takes on before the others wait outside


def serve_options(verb: click.decorators.FC) -> click.decorators.FC:
    """Where to listen."""
    verb = click.option("--port", type=click.IntRange(1, 65535), default=PORT, show_default=True)(verb)
    return click.option("--host", default=HOST, show_default=True, help="0.0.0.0 listens on every address.")(verb)


@click.command()
@serve_options
@click.option("--workers", type=click.IntRange(1, 64), default=1, show_default=True, help="Worker processes.")
@click.option("--debug", is_flag=True, help="Flask's own server and debugger: for developers only.")
def serve(host: str, port: int, workers: int, debug: bool) -> None:
    """Serve the HTTP API and its documentation page until stopped; requests in flight are finished first."""
    # Opened here first: what is wrong is said in one line, and the workers find the server running.
    with open_service():
        run_server(host, port, workers, debug)


def run_server(host: str, port: int, workers: int, debug: bool = False) -> None:
    """Serve wsgi:app in the foreground."""
    address = _free_address(host, port)
    # The service is named by string: the ledger itself never imports it.
    sys.path.insert(0, str(ROOT))
    if debug:
        import_module("wsgi").app.run(host=address, port=port, debug=True, use_reloader=False)
        return
    from granian import Granian
    from granian.constants import Interfaces

    # Forked workers would inherit our connections and locks; spawned ones begin with nothing.
    multiprocessing.set_start_method("spawn", force=True)
    # It advises fewer threads for work that keeps a processor busy; ours waits.
    logging.getLogger("_granian").addFilter(lambda record: "quite high" not in record.getMessage())
    Granian(
        "wsgi:app",
        address=address,
        port=port,
        interface=Interfaces.WSGI,
        workers=workers,
        # Requests mostly wait, for the commit that they share; more threads only take turns.
        blocking_threads=THREADS,
        backpressure=BACKLOG,
        websockets=False,
        respawn_failed_workers=True,
        # A worker told to stop before it listens never hears it; longer than any request takes to finish.
        workers_kill_timeout=STOP_SECONDS,
    ).serve()


def _free_address(host: str, port: int) -> str:
    """The address that a host name means, if the port is free there. The server shares a port with whoever else has
    it and says nothing, so that requests would go to either: looked at here first. Raises ClickException."""
    try:
        family, _, _, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(place)
    except socket.gaierror:
        raise click.ClickException(f"there is no address for the host {host}") from None
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise click.ClickException(f"port {port} is in use; --port chooses another") from None
        raise click.ClickException(f"cannot listen on {host} port {port}: {error.strerror}") from None
    return str(place[0])


@click.command()
def migrate() -> None:
    """Bring the database's tables up to date, as the owner role (LEDGER_OWNER_URL, or the embedded server's)."""
    with open_database() as database:
        if database.owner_url is None:
            raise click.ClickException(
                "LEDGER_OWNER_URL is needed: migrations run as the role that owns the tables (docs/roles.sql)"
            )
        applied = migrations.migrate(database.owner_url)
    for name in applied:
        click.echo(f"applied {name}")
    if not applied:
        click.echo("nothing to do: every migration is applied")


@click.command(context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []})
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
def bench(args: tuple[str, ...]) -> int:
    """Measure the ledger against what it is compared with; `bench --help` shows its options."""
    sys.path.insert(0, str(ROOT))
    if not (ROOT / "benchmarks").is_dir():
        raise click.ClickException("the benchmarks are not installed: run them from a checkout")
    return int(import_module("benchmarks.run").main(list(args)) or 0)


COMMANDS = (serve, migrate, bench)
