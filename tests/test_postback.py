"""Postbacks: signed, timely, recorded once however often they come, and understood or refused, never guessed."""

from __future__ import annotations

import hmac
import re
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from shutil import which
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from flask import Flask
from http_support import Shop, ledger_of_module, serving
from support import balance, by, read_log

from api.postback import EXTRAS, NAMES
from api.signature import canonical_string, security_token
from ledger.domain.affiliate import DecideAffiliate
from ledger.store.embedded import EmbeddedServer

DOCUMENT = Path(__file__).parents[1] / "docs" / "postback.md"


def sign(secret: str, parameters: dict[str, str]) -> str:
    """The recipe of docs/postback.md, written anew."""
    text = "&".join(f"{quote(k, safe='')}={quote(v, safe='')}" for k, v in sorted(parameters.items()))
    return hmac.new(secret.encode(), text.encode(), "sha256").hexdigest()


class World(Shop):
    """A shop, and a sender that knows its secret."""

    def __init__(self, app: Flask) -> None:
        super().__init__(app)
        self.url = f"{self.prefix}/postback"
        self.secret = self.ledger.secrets.postback_secret(self.program_id)

    def parameters(self, **given: str) -> dict[str, str]:
        """A sale by ada of 49.90, signed just now; empty values are left out."""
        found = {
            "order_id": "A-1", "amount": "49.90", "offer_id": "shoes", "affiliate_id": "ada",
            "timestamp": str(int(datetime.now(UTC).timestamp())), **given,
        }  # fmt: skip
        return {name: value for name, value in found.items() if value}

    def signed(self, **given: str) -> dict[str, str]:
        found = self.parameters(**given)
        return {**found, "security_token": sign(self.secret, found)}

    def send(self, **given: str) -> Any:
        return self.client.get(self.url, query_string=self.signed(**given))

    def topics(self) -> list[str]:
        return [
            one.topic for one in read_log(self.ledger, self.program) if "Conver" in one.topic or "Rever" in one.topic
        ]


@pytest.fixture(scope="module")
def app(server: EmbeddedServer, template: str) -> Iterator[Flask]:
    with ledger_of_module(server, template) as ledger, serving(ledger) as app:
        yield app


@pytest.fixture
def world(app: Flask) -> World:
    return World(app)


# --- the documented signature ------------------------------------------------------------------------------


def _example() -> tuple[str, dict[str, str], str, str]:
    """(secret, parameters, canonical string, token) as docs/postback.md shows them."""
    blocks = re.findall(r"(?:^    .+\n)+", DOCUMENT.read_text().split("### Worked example")[1], re.MULTILINE)
    secret, lines, text, token = (block.strip() for block in blocks[:4])
    parameters = dict(re.split(r"\s+=\s+", line.strip(), maxsplit=1) for line in lines.splitlines())
    return secret, parameters, text, token


def test_the_worked_example_of_the_document_is_right() -> None:
    """The page's numbers, its Python and its shell line all give the token that we compute."""
    secret, parameters, text, token = _example()
    assert canonical_string({**parameters, "security_token": "whatever"}) == text
    assert security_token(secret, parameters) == token == sign(secret, parameters)
    page = DOCUMENT.read_text()
    recipe: dict[str, Any] = {}
    exec(page.split("```python\n")[1].split("```")[0], recipe)
    assert recipe["security_token"](secret, parameters) == token
    if which("openssl"):
        command = page.split("```sh\n")[1].split("```")[0]
        said = subprocess.run(
            ["sh", "-c", command], env={"TEXT": text, "SECRET": secret, "PATH": "/usr/bin:/bin:/usr/local/bin"},
            capture_output=True, text=True, check=True, timeout=30,
        )  # fmt: skip
        assert said.stdout.strip() == token


def test_the_document_names_every_parameter() -> None:
    """Nothing is taken that the page does not tell of."""
    page = DOCUMENT.read_text()
    for name in NAMES | EXTRAS:
        shown = re.sub(r"^(sub|adv)\d$", r"\g<1>1", name)
        assert f"`{shown}`" in page, name


# --- taking in ---------------------------------------------------------------------------------------------


def test_a_signed_postback_records_the_sale_and_answers_as_conversions_do(world: World) -> None:
    """49.90 becomes 4990 minor units of the program's currency, with its commission."""
    said = world.send(event_id="purchase", status="approved")
    assert said.status_code == 201, said.text
    assert said.json["order_id"] == "A-1"
    assert (said.json["affiliate_id"], said.json["commission"], said.json["currency"]) == ("ada", 499, "GBP")
    assert said.json["status"] == "pending", "what may be paid is decided here"
    assert said.json["position"] > 0
    sale = next(one for one in world.log("books") if one.get("event_id") == "purchase")
    assert (sale["amount"], sale["currency"]) == (4990, "GBP")


def test_the_three_ways_to_send_are_one(world: World) -> None:
    """Query, form and JSON carry the same parameters; the second and third find the first."""
    parameters = world.signed(coupon_code="SUMMER SALE/10%", customer_id="ünï-1")
    assert world.client.get(world.url, query_string=parameters).status_code == 201
    form: Any = world.client.post(world.url, data=parameters)
    assert form.status_code == 200
    assert world.client.post(world.url, json=parameters).json == form.json
    # '+' for a space and lower-case escapes are the same values, in another order
    raw = urlencode(list(reversed(parameters.items()))).replace("%C3", "%c3").replace("SUMMER+SALE", "SUMMER%20SALE")
    assert world.client.get(f"{world.url}?{raw}").status_code == 200


def test_a_thousand_replays_are_one_sale(world: World) -> None:
    """Whoever overhears a postback and sends it again changes nothing."""
    query = urlencode(world.signed())

    def replay(_: int) -> tuple[int, Any]:
        said = world.client.application.test_client().get(f"{world.url}?{query}")
        return said.status_code, said.json

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(replay, range(1000)))
    assert sorted({status for status, _ in answers}) == [200, 201]
    assert [status for status, _ in answers].count(201) == 1
    assert all(body == answers[0][1] for _, body in answers)
    assert world.topics() == ["ConversionRecorded"]
    assert balance(world.ledger, "ada", program=world.program) == {"pending": 499}


def test_signing_again_to_send_again_is_still_one_sale(world: World) -> None:
    """A sender that retries minutes later has a newer timestamp; the sale is the one that was recorded."""
    now = datetime.now(UTC)
    first = world.send(timestamp=str(int((now - timedelta(minutes=5)).timestamp())))
    again = world.send(timestamp=now.isoformat())
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json == again.json
    assert world.send(amount="49.91").status_code == 409
    assert world.send(occurred_at="2026-01-01T00:00:00Z").status_code == 409, "that is another time, said outright"
    # kept as an exception: just so
    unknown = {"order_id": "A-2", "offer_id": "hats"}
    kept = world.send(**unknown, timestamp=str(int((now - timedelta(minutes=5)).timestamp())))
    assert (kept.status_code, kept.json["type"]) == (202, "unknown_offer")
    assert (world.send(**unknown).status_code, world.send(**unknown).json) == (202, kept.json)


def test_occurred_at_is_the_time_of_the_sale(world: World) -> None:
    """Else it is the timestamp; both as unix seconds or RFC 3339."""
    world.send(order_id="x1", occurred_at="1767225600")
    world.send(order_id="x2", occurred_at="2026-01-01T02:00:00+02:00")
    now = datetime.now(UTC).replace(microsecond=0)
    world.send(order_id="x3", timestamp=now.isoformat())
    times = {one["order_id"]: one["occurred_at"] for one in world.log("books") if "sale_amount" in one}
    assert times["x1"] == times["x2"] == "2026-01-01T00:00:00Z"
    assert datetime.fromisoformat(times["x3"]) == now


def test_the_offer_may_be_left_out_when_our_own_click_says_it(world: World) -> None:
    """A signed click_id names affiliate and offer, under either of its names."""
    at = datetime.now(UTC) - timedelta(minutes=1)
    for name in ("click_id", "transaction_id"):
        click_id = world.ledger.secrets.sign_click(world.program_id, "bob", "shoes", at)
        said = world.send(order_id=name, offer_id="", affiliate_id="", **{name: click_id})
        assert (said.status_code, said.json["affiliate_id"]) == (201, "bob"), said.text
    said = world.send(order_id="z", offer_id="", click_id="net-1")
    assert (said.status_code, said.json["errors"][0]["parameter"]) == (422, "offer_id")


def test_other_trackers_macros_are_ignored_and_empty_ones_are_absent(world: World) -> None:
    """sub1, adv1 and goal_id do no harm; an unfilled macro is no coupon called ''."""
    parameters = {**world.parameters(), "sub1": "x", "adv5": "y", "goal_id": "1", "coupon_code": "", "currency": ""}
    parameters["security_token"] = sign(world.secret, parameters)
    assert world.client.get(world.url, query_string=parameters).status_code == 201
    # they are signed all the same
    assert world.client.get(world.url, query_string={**parameters, "sub1": "z"}).status_code == 403


# --- taking back -------------------------------------------------------------------------------------------


def test_a_declined_sale_is_taken_back_whole_and_once(world: World) -> None:
    """With order_id and status alone; again is the same reversal."""
    world.send()
    for expected in (201, 200, 200):
        said = world.send(status="rejected", amount="", offer_id="", affiliate_id="")
        assert said.status_code == expected, said.text
        assert said.json["reversal_id"] == "postback:A-1"
    assert balance(world.ledger, "ada", program=world.program) == {}
    assert world.send().status_code == 200, "the sale itself is what it was"


def test_a_sale_first_heard_of_when_it_is_declined_is_recorded_and_taken_back(world: World) -> None:
    """Nothing is owed, and the story is whole; the words for it are three, in any case of letters."""
    for number, status in enumerate(("rejected", "Declined", "reversed")):
        assert world.send(order_id=f"d{number}", status=status).status_code == 201
    assert balance(world.ledger, "ada", program=world.program) == {}
    assert world.topics() == ["ConversionRecorded", "ConversionReversed", "ReversalRecorded"] * 3


def test_a_decline_that_arrives_first_waits_for_its_sale(world: World) -> None:
    """The order of arrival does not matter."""
    assert world.send(status="declined", amount="").status_code == 201
    assert world.send().status_code == 201
    assert balance(world.ledger, "ada", program=world.program) == {}


def test_a_decline_with_other_details_still_takes_the_sale_back(world: World) -> None:
    """What is there is taken back whole, whatever else is said of it now."""
    world.send()
    assert world.send(status="declined", amount="12.00", event_id="refund").status_code == 201
    assert balance(world.ledger, "ada", program=world.program) == {}


def test_the_longest_order_can_be_taken_back(world: World) -> None:
    """128 characters leave no room for a prefix."""
    long = "x" * 128
    assert world.send(order_id=long).status_code == 201
    assert [world.send(order_id=long, status="declined").status_code for _ in range(2)] == [201, 200]
    assert balance(world.ledger, "ada", program=world.program) == {}


def test_what_cannot_be_applied_is_kept(world: World) -> None:
    """202, as for conversions."""
    world.ledger.execute(world.program, DecideAffiliate(affiliate_id="ada", decision="close"), by())
    said = world.send()
    assert (said.status_code, said.json["type"]) == (202, "affiliate_closed")


# --- refusing ----------------------------------------------------------------------------------------------


def test_only_the_programs_own_secret_signs(world: World, app: Flask) -> None:
    """No token, a wrong one, another program's, one of other values: 403, and nothing is recorded."""
    stranger = World(app)
    good = world.signed()
    bad = [
        {name: value for name, value in good.items() if name != "security_token"},
        {**good, "security_token": ""},
        {**good, "security_token": "0" * 64},
        {**good, "security_token": "é"},
        {**good, "security_token": good["security_token"][:-1]},
        {**good, "security_token": sign(stranger.secret, world.parameters())},
        {**good, "amount": "4990.00"},
        {**good, "currency": "USD"},
        {**good, "status": "rejected"},
    ]
    for parameters in bad:
        answers: list[Any] = [
            world.client.get(world.url, query_string=parameters),
            world.client.post(world.url, data=parameters),
            world.client.post(world.url, json=parameters),
        ]
        for said in answers:
            assert (said.status_code, said.json["code"]) == (403, "bad_signature"), parameters
            assert said.mimetype == "application/problem+json"
    assert world.topics() == []
    upper = {**good, "security_token": good["security_token"].upper()}
    assert world.client.get(world.url, query_string=upper).status_code == 201


def test_strangers_do_not_learn_which_programs_exist(world: World) -> None:
    """Without a good signature an unknown program answers as a known one."""
    unknown: Any = world.client.get("/v1/programs/no-such/postback", query_string=world.signed())
    known: Any = world.client.get(world.url, query_string={**world.signed(), "amount": "1"})
    assert unknown.status_code == known.status_code == 403
    assert unknown.json["detail"] == known.json["detail"]


def test_an_old_or_future_postback_is_refused(world: World) -> None:
    """Ten minutes either way."""
    now = datetime.now(UTC)
    for minutes, expected in ((-11, 403), (11, 403), (-9, 201), (9, 200)):
        said = world.send(timestamp=(now + timedelta(minutes=minutes)).isoformat())
        assert said.status_code == expected, (minutes, said.text)
        if expected == 403:
            assert said.json["code"] == "stale_timestamp"
            assert said.json["errors"][0]["parameter"] == "timestamp"


@pytest.mark.parametrize(
    ("given", "parameter"),
    [
        ({"amount": ""}, "amount"),
        ({"amount": "49.901"}, "amount"),
        ({"amount": "-1"}, "amount"),
        ({"amount": "1e3"}, "amount"),
        ({"amount": "1_000"}, "amount"),
        ({"amount": "49,90"}, "amount"),
        ({"amount": "NaN"}, "amount"),
        ({"amount": "٤٩"}, "amount"),
        ({"amount": " 1"}, "amount"),
        ({"amount": "9" * 15}, "amount"),
        ({"amount": "9" * 4000}, "amount"),
        ({"amount": "49.9", "currency": "JPY"}, "amount"),
        ({"currency": "gbp"}, "currency"),
        ({"currency": "XXXX"}, "currency"),
        ({"order_id": ""}, "order_id"),
        ({"order_id": "x" * 129}, "order_id"),
        ({"order_id": "a\nb"}, "order_id"),
        ({"order_id": "x" * 129, "status": "declined", "amount": ""}, "order_id"),
        ({"offer_id": "no slug"}, "offer_id"),
        ({"affiliate_id": "no/slug"}, "affiliate_id"),
        ({"customer_id": "jane@example.com"}, "customer_id"),
        ({"coupon_code": "x" * 129}, "coupon_code"),
        ({"transaction_id": "a", "click_id": "b"}, "transaction_id"),
        ({"timestamp": ""}, "timestamp"),
        ({"timestamp": "soon"}, "timestamp"),
        ({"timestamp": "2026-01-01T00:00:00"}, "timestamp"),
        ({"timestamp": "999999999999"}, "timestamp"),
        ({"occurred_at": "yesterday"}, "occurred_at"),
        ({"occurred_at": "0001-01-01T00:00:00+02:00"}, "occurred_at"),
        ({"status": "paid"}, "status"),
        ({"currrency": "USD"}, "currrency"),
        ({"items": "x"}, "items"),
    ],
)
def test_what_is_wrong_is_named(world: World, given: dict[str, str], parameter: str) -> None:
    """422 with the sender's own name of the parameter, in a query and in JSON; nothing is stored."""
    parameters = world.signed(**given)
    said: Any = world.client.get(world.url, query_string=parameters)
    assert said.status_code == 422, said.text
    assert said.json["errors"][0]["parameter"] == parameter, said.json
    said = world.client.post(world.url, json=parameters)
    assert (said.status_code, said.json["errors"][0]["pointer"]) == (422, f"/{parameter}")
    assert world.topics() == []


def test_a_parameter_that_is_there_twice_is_refused(world: World) -> None:
    """Two readers could take another one of them: in a query, a form and JSON."""
    query = urlencode(world.signed())
    for twice in (f"{query}&amount=1", f"{query}&security_token=1", f"amount=1&{query}"):
        said = world.client.get(f"{world.url}?{twice}")
        assert (said.status_code, said.mimetype) == (400, "application/problem+json")
        form: Any = world.client.post(world.url, data=twice, content_type="application/x-www-form-urlencoded")
        assert form.status_code == 400
    twice = '{"order_id":"a","order_id":"b"}'
    assert world.client.post(world.url, data=twice, content_type="application/json").status_code == 400


def test_bodies_that_are_no_postback_are_refused(world: World) -> None:
    """4xx for whatever else comes, and never a 5xx."""
    form = "application/x-www-form-urlencoded"
    for data, kind, status in (
        (b"", form, 403),
        (b"novalue", form, 400),
        (b"a=%ff", form, 400),
        (b"a=\xff", form, 400),
        (b"&".join(b"p%d=1" % n for n in range(50)), form, 400),
        (b"a=" + b"x" * 20_000, form, 413),
        (b"a=1", "text/plain", 415),
        (b"a=1", "multipart/form-data", 415),
        (b"[1]", "application/json", 422),
        (b'{"amount": 49.90}', "application/json", 422),
        (b'{"amount": null}', "application/json", 422),
        (b'{"amount": true}', "application/json", 422),
        (b'{"amount": {"a": 1}}', "application/json", 422),
        (b'{"amount": NaN}', "application/json", 400),
        (b"{", "application/json", 400),
        (b"[" * 10_000, "application/json", 400),
        (b'{"timestamp": ' + b"9" * 4000 + b"}", "application/json", 403),
    ):
        said: Any = world.client.post(world.url, data=data, content_type=kind)
        assert (said.status_code, said.mimetype) == (status, "application/problem+json"), (data[:50], said.text)
    assert world.client.get(f"{world.url}?{'a' * 20_000}=1").status_code == 414
    assert world.client.get(f"{world.url}?a=%ff").status_code == 400
    both = world.client.post(f"{world.url}?order_id=1", data=world.signed())
    assert both.status_code == 400
    assert world.topics() == []


def test_looking_at_the_address_records_nothing(world: World) -> None:
    """HEAD is not a postback."""
    assert world.client.head(world.url, query_string=world.signed()).status_code == 405
    assert world.topics() == []
