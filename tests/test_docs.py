"""The README and the pages of docs/ show what is there: commands, addresses, requests with their answers, links."""

from __future__ import annotations

import http.client
import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import click
import pytest
from pages import (
    EVERY_PAGE,
    PAGES,
    PROGRAM,
    README,
    ROOT,
    Served,
    block_lines,
    commands_of,
    inline_code,
    page_of_docs,
    serve_program,
    text_of,
)

from api import schemas
from api.access import ACCESS
from benchmarks import run as bench
from ledger.cli import cli
from ledger.domain.click import RecordClick
from ledger.domain.impression import RecordImpression
from ledger.domain.recording import RecordConversion
from ledger.store.embedded import EmbeddedServer

PREFIX = "/v1/programs/{program}"


@pytest.fixture(scope="module")
def served(server: EmbeddedServer, template: str) -> Iterator[Served]:
    """The small program on a real port."""
    with serve_program(server, template) as found:
        yield found


# --- the command line --------------------------------------------------------------------------------------


def leaves(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The verbs of the command line, such as ('key', 'issue')."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from leaves(command, (*path, name))
        else:
            yield (*path, name)


def why_not(words: list[str], complete: bool) -> str | None:
    """What is wrong with a command, or None. complete: it must have everything that it needs."""
    command: click.Command = cli
    rest = list(words)
    while isinstance(command, click.Group):
        if not rest or rest[0] not in command.commands:
            return None if rest and rest[0] in ("test", "lint") and command is cli else f"no verb {rest[:1]}"
        command = command.commands[rest.pop(0)]
    given = [word.partition("=")[0] for word in rest if word.startswith("-")]
    if command.name == "bench":
        known = {flag for action in bench._arguments()._actions for flag in action.option_strings}
        return next((f"bench has no {flag}" for flag in given if flag not in known), None)
    options = [param for param in command.params if isinstance(param, click.Option)]
    known = {name for option in options for name in (*option.opts, *option.secondary_opts)}
    if unknown := [flag for flag in given if flag not in known]:
        return f"{command.name} has no {', '.join(unknown)}"
    if complete:
        missing = [option.opts[0] for option in options if option.required and not set(option.opts) & set(given)]
        if missing:
            return f"{command.name} needs {', '.join(missing)}"
    return None


@EVERY_PAGE
def test_every_command_shown_exists_with_its_options(page: Path) -> None:
    """Whoever types a command from a page is not told that there is none; in a block, nothing it needs is missing."""
    wrong = [f"{shlex.join(words)}: {why}" for words, block in commands_of(page) if (why := why_not(words, block))]
    assert not wrong


def test_the_readme_lists_every_verb() -> None:
    """The command line at a glance is all of it."""
    shown = {tuple(code.split()[1:]) for code in inline_code(README) if code.startswith("ledger ")}
    assert set(leaves(cli)) <= shown, set(leaves(cli)) - shown


def test_a_wrong_command_would_be_found() -> None:
    """The look at commands sees a verb that is not there, an option that is not there, and one that is missing."""
    assert why_not(["balance"], False)
    assert why_not(["key", "issue", "--rôle", "admin"], False)
    assert why_not(["approve-due", "--program", "demo"], True)


# --- requests ------------------------------------------------------------------------------------------------


class Answer(NamedTuple):
    """What a request was answered."""

    status: int
    content_type: str
    body: bytes


def curl(served: Served, line: str) -> Answer:
    """Do what a curl command line says: -H, -X, -d and an address; its shell variables are known. Whatever else it
    has is an error here, so that nothing goes unnoticed."""
    for name, value in {**served.tokens, "LEDGER": f"http://x/v1/programs/{PROGRAM}"}.items():
        line = line.replace(f"${name}", value)
    words = iter(shlex.split(line, comments=True)[1:])
    method, data, headers, address = "", None, {}, ""
    for word in words:
        if word == "-H":
            name, _, value = next(words).partition(": ")
            headers[name] = value
        elif word == "-X":
            method = next(words)
        elif word == "-d":
            data = next(words).encode()
        elif word in (">", "|"):
            break
        elif word != "-sS":
            assert not word.startswith("-"), f"{word} of curl is not known here"
            address = word
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=20)
    try:
        assert address.startswith("http://x/"), line
        connection.request(method or ("POST" if data else "GET"), address.removeprefix("http://x"), data, headers)
        answer = connection.getresponse()
        return Answer(answer.status, answer.headers["Content-Type"], answer.read())
    finally:
        connection.close()


def curls(page: Path) -> list[tuple[str, int]]:
    """A page's curl commands with the status that its comment says (200 without one)."""
    found = []
    for line in block_lines(page):
        if line.startswith("curl "):
            status = re.search(r"# (\d{3})$", line)
            found.append((line, int(status[1]) if status else 200))
    return found


def test_the_readme_s_requests_answer_what_it_says(served: Served) -> None:
    """Each curl of the README, in its order, answers the status beside it; and the bonus ends in the books."""
    shown = curls(README)
    assert len(shown) >= 9
    assert {name for name in served.tokens if any(f"${name}" in line for line, _ in shown)} == set(served.tokens)
    for line, status in shown:
        answer = curl(served, line)
        assert answer.status == status, (line, answer)
    balance = curl(served, 'curl -H "Authorization: Bearer $AFFILIATE" "$LEDGER/affiliates/reviews-01/balance"')
    assert json.loads(balance.body)["balances"][0]["payable"] == 5000


@pytest.mark.parametrize("page", [page for page in PAGES if page != README and curls(page)], ids=lambda p: p.name)
def test_the_requests_of_the_other_pages_succeed(served: Served, page: Path) -> None:
    """Each curl of the other pages answers 200, and as NDJSON where it asks for that."""
    for line, status in curls(page):
        answer = curl(served, line)
        assert answer.status == status, (line, answer)
        assert ("x-ndjson" in line) == (answer.content_type == "application/x-ndjson"), line


# --- the API -----------------------------------------------------------------------------------------------


def bare(path: str) -> str:
    """A path whose parameters have no names, without query and prefix."""
    return re.sub(r"\{[^}]*\}", "{}", path.partition("?")[0].removeprefix(PREFIX))


def operations(served: Served) -> dict[tuple[str, str], dict[str, Any]]:
    """(method, bare path) → operation, of the OpenAPI document and of what stands outside it."""
    found = {
        (method.upper(), bare(path)): operation
        for path, methods in served.openapi["paths"].items()
        for method, operation in methods.items()
        if isinstance(operation, dict)
    }
    return found | {("GET", path): {} for path in served.plain_paths}


@EVERY_PAGE
def test_every_address_shown_exists(served: Served, page: Path) -> None:
    """A method and path that a page names is an operation; a path alone is one, or its end."""
    known = operations(served)
    for code in (*inline_code(page), *block_lines(page)):
        if found := re.match(r"((?:GET|POST|PUT|DELETE)(?: or (?:GET|POST))?) +(/\S+)", code):
            for method in found[1].split(" or "):
                assert (method, bare(found[2])) in known, code
        elif re.match(r"/[a-z][a-z/{}_.-]+$", code):
            assert any(path.removesuffix("/").endswith(bare(code).removesuffix("/")) for _, path in known), code


def test_every_operation_is_explained_and_linked(served: Served) -> None:
    """Each operation has a summary and says who may use it, as docs/access.md lists it; and an address that some page
    mentions has the same operation."""
    access = text_of(page_of_docs("access"))
    for (method, path), operation in operations(served).items():
        if not operation:
            continue
        assert operation.get("summary"), (method, path)
        assert f"`{operation['operationId']}`" in access, (method, path)
        assert operation["x-roles"] == list(ACCESS.get(operation["operationId"], ())), (method, path)


@pytest.mark.parametrize("name", ["finance", "merchants"])
def test_bodies_shown_are_accepted(name: str) -> None:
    """The JSON bodies that a page shows name only fields that there are."""
    fields = {field for kind in vars(schemas).values() if isinstance(kind, type) and issubclass(kind, schemas.Strict)
              for field in kind().fields}  # fmt: skip
    for command in (RecordConversion, RecordClick, RecordImpression):
        fields |= set(command.__struct_fields__)
    page = page_of_docs(name)
    shown = [code for code in (*block_lines(page), *inline_code(page)) if re.match(r'\{"[a-z_]+": ', code)]
    assert shown
    for code in shown:
        assert set(json.loads(code.replace("…", "x"))) <= fields, code


# --- links and versions --------------------------------------------------------------------------------------


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", text_of(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@EVERY_PAGE
def test_relative_links_resolve(page: Path) -> None:
    """Each link to a file of the checkout finds it, and the heading if it names one."""
    for target in re.findall(r"\]\(([^)]+)\)", text_of(page)):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        found = page if not path else (page.parent / path).resolve()
        assert found.is_file(), target
        assert not anchor or anchor in anchors(found), target


def test_the_changelog_has_this_version() -> None:
    """The version that is built has an entry, the newest one."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    newest = re.search(r"^## (\S+)", text_of(ROOT / "CHANGELOG.md"), re.MULTILINE)
    assert newest is not None
    assert newest[1] == version
