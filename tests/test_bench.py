"""The benchmarks: every row can be measured, and what is printed is the document that the README promises.

No figure is judged here: a loaded machine must not fail the build.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.harness import Comparison, Plan, Row, document, race, row_of, table
from benchmarks.load import Client, Load

ROOT = Path(__file__).resolve().parents[1]

# (a word of the work, a word of what it is compared with, goal): the table of the assignment, the bound of memory,
# what closing a month and reading its statements may cost, and sealing
PROMISED = [
    ("clicks", "binary COPY", 0.4),
    ("clicks", "insert_events", 2),
    ("conversions", "ProjectionRunner", 20),
    ("rebuild of the books", "ProjectionRunner", 75),
    ("one conversion a request", "coalescing off", 4),
    ("one conversion a request", "stopping after validation", 0.5),
    ("validation only", "/healthz", 0.4),
    ("GET balance", "SELECT 1", 0.7),
    ("GET balance", "1,000 entries", 0.9),
    ("memory: rebuilding", "rebuilding", 0.8),
    ("memory: importing", "importing", 0.8),
    ("closing a month", "only reading", 0.25),
    ("memory: closing", "closing one", 0.8),
    ("GET statement", "only reading", 0.25),
    ("memory: the service", "after", 0.8),
    ("sealing", "only hashing", 0.05),
    ("memory: sealing", "sealing", 0.8),
    ("verify: hashing", "sha256sum", 0.5),
    ("verify: an export", "a million events a minute", 1),
    ("memory: verifying", "verifying", 0.8),
    ("priced by a plan", "flat plan", 0.7),
    ("journeys", "5,000 conversions a second", 1),
    ("simulate", "only reading and folding", 0.1),
    ("memory: simulating", "simulating", 0.8),
]


@pytest.mark.slow
def test_quick_mode_measures_every_promised_row_and_prints_one_json_document() -> None:
    """`bench --quick --json` runs all the work on its own server and prints each promised row with its ratio."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.run", "--quick", "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == "", "progress is for terminals"
    rows = json.loads(done.stdout)
    assert [row["goal"] for row in rows] == [goal for _, _, goal in PROMISED]
    for row, (work, compared_with, _) in zip(rows, PROMISED, strict=True):
        assert list(row) == ["work", "compared_with", "ratio", "goal", "met", "runs"]
        assert work in row["work"]
        assert compared_with in row["compared_with"]
        assert row["ratio"] > 0
        assert row["met"] is (row["ratio"] >= row["goal"]) or abs(row["ratio"] - row["goal"]) < 0.001
        assert row["runs"] == 1


def test_contenders_take_turns_and_the_warm_up_does_not_count() -> None:
    """A B A B …: neighbours are compared, and the first turn of a full measurement is left out."""
    order: list[str] = []
    rates = {"ours": iter([1.0, 20.0, 30.0, 40.0]), "other": iter([1000.0, 10.0, 10.0, 10.0])}

    def contender(name: str) -> float:
        order.append(name)
        return next(rates[name])

    comparison = Comparison("work", "ours", "the other", "other", 2.5, "things/s")
    (row,) = race(
        {"ours": lambda: contender("ours"), "other": lambda: contender("other")}, [comparison], Plan(3, False)
    )
    assert order == ["ours", "other"] * 4
    assert (row.ratio, row.subject, row.baseline, row.runs) == (3.0, 30.0, 10.0, 3)
    assert row.met


def test_a_ratio_is_the_median_of_the_ratios_of_neighbours() -> None:
    """A machine that is slow for one turn slows both contenders of that turn, and not the result."""
    comparison = Comparison("work", "a", "b", "b", 1.5, "things/s")
    row = row_of(comparison, {"a": [1.0, 20.0, 30.0], "b": [2.0, 5.0, 10.0]})
    assert row.ratio == 3.0


def test_a_missed_goal_is_shown_and_is_not_an_error() -> None:
    """Who reads the table sees the goal, that it was missed, and both medians."""
    missed = Row("the work", "the other", 0.5, 0.7, 5, 1234.0, 2468.0, "requests/s")
    shown = table([missed])
    assert "NOT MET" in shown
    assert "1,234 against 2,468 requests/s" in shown
    assert json.loads(document([missed]))[0]["met"] is False


def test_rows_without_a_goal_are_for_readers_only() -> None:
    """What is shown for comparison is not part of the document that a program judges."""
    extra = Row("the work", "the other", 0.5, None, 5, 1.0, 2.0, "rows/s")
    assert "for comparison" in table([extra])
    assert json.loads(document([extra])) == []


def test_the_client_refuses_to_count_wrong_answers(tmp_path: Path) -> None:
    """An error page is quick to serve: a service that answers errors must not look fast."""
    page = tmp_path / "index.html"
    page.write_text("hello")
    server = subprocess.Popen(
        [sys.executable, "-u", "-c", _SERVER], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        assert server.stdout is not None
        port = int(server.stdout.readline())
        request = "GET /%s HTTP/1.1\r\nHost: x\r\n\r\n"
        good = Client(Load(port, 2, 0.0, 0.1, request % "index.html", 200)).run()
        assert good.bad == ""
        assert good.good > 2
        assert good.last == good.good - 1, "every request that was sent was answered before the end"
        bad = Client(Load(port, 2, 0.0, 0.1, request % "missing", 200)).run()
        assert "404" in bad.bad
    finally:
        server.kill()
        server.wait()


_SERVER = """
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
SimpleHTTPRequestHandler.protocol_version = "HTTP/1.1"
server = ThreadingHTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler)
print(server.server_port)
server.serve_forever()
"""
