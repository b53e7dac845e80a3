"""The tracking link: it leads to the stored landing page and nowhere else, and every visit becomes one click."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import msgspec
import pytest
from flask import Flask
from http_support import LANDING, Shop, ledger_of_module, serving, until
from support import PROGRAM, T0, by, open_ledger, open_shop, sale

from api.tracking import Tracking, Visitors, tracking, with_click_id
from ledger import links
from ledger.application import CommissionLedger
from ledger.domain.affiliate import DecideAffiliate, EnrolAffiliate
from ledger.domain.click import key
from ledger.domain.errors import NotFound, Unavailable
from ledger.domain.offer import OfferState, PublishOffer
from ledger.domain.program import OpenProgram
from ledger.links import Links
from ledger.store.database import Database
from ledger.store.embedded import EmbeddedServer
from ledger.store.vault import Vault


class World(Shop):
    """A shop with a landing page, and a visitor's browser."""

    def follow(self, link: str = "", **more: Any) -> Any:
        return self.client.get(link or self.link, **more)

    def personal(self, click: dict[str, Any]) -> dict[str, str]:
        """What is stored of a click as ciphertext, read with the month's key."""
        with self.ledger.reading(self.program) as (cur, id_):
            vault = Vault(cur, self.ledger.secrets, id_, T0)
            text = vault.unseal(click["personal_key"], key(click["click_id"]), "personal", click["personal"])
        assert text
        found: dict[str, str] = msgspec.json.decode(text)
        return found


def click_id_of(said: Any) -> str:
    """The click_id in a redirect's target."""
    assert said.status_code == 302, said.text
    return dict(parse_qsl(urlsplit(str(said.location)).query))["click_id"]


@pytest.fixture(scope="module")
def ledger(server: EmbeddedServer, template: str) -> Iterator[CommissionLedger]:
    with ledger_of_module(server, template) as ledger:
        yield ledger


@pytest.fixture(scope="module")
def app(ledger: CommissionLedger) -> Iterator[Flask]:
    with serving(ledger) as app:
        yield app


@pytest.fixture
def world(app: Flask) -> World:
    return World(app)


# --- where it leads ----------------------------------------------------------------------------------------


def test_a_visitor_is_sent_to_the_landing_page_and_the_click_is_recorded(world: World) -> None:
    """302 with a signed click_id in the query before the fragment; the log has the same click soon after."""
    said = world.follow()
    click_id = click_id_of(said)
    assert said.location == f"https://shop.example/shoes?ref=1&click_id={click_id}#size"
    assert said.headers["Cache-Control"] == "no-store"
    assert said.headers["Referrer-Policy"]
    token = world.ledger.secrets.read_click(world.program_id, click_id)
    assert token is not None
    assert (token.affiliate_id, token.offer_id) == ("ada", "shoes")
    (click,) = world.clicks(1)
    assert (click["click_id"], click["affiliate_id"], click["offer_id"]) == (click_id, "ada", "shoes")
    assert click["occurred_at"] == msgspec.to_builtins(token.occurred_at)


def test_two_visits_are_two_clicks(world: World) -> None:
    """No id is given out twice."""
    ids = {click_id_of(world.follow()) for _ in range(5)}
    assert {one["click_id"] for one in world.clicks(5)} == ids
    assert len(ids) == 5


def test_a_sale_that_names_the_click_id_credits_the_affiliate_recorded_or_not(world: World) -> None:
    """The token alone is enough: here the click never reaches the log."""
    with serving(world.ledger) as app:
        here = tracking(app)
        here.queue.close()
        click_id = click_id_of(app.test_client().get(world.link))
        assert here.queue.dropped == 1
    assert world.log() == []
    token = world.ledger.secrets.read_click(world.program_id, click_id)
    assert token is not None
    answer = world.ledger.execute(
        world.program, sale("o1", affiliate_id=None, click_id=click_id, occurred_at=token.occurred_at), by()
    )
    assert answer.body["affiliate_id"] == "ada"


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        ("https://a.example", "https://a.example?click_id=K"),
        ("https://a.example/?", "https://a.example/?click_id=K"),
        ("https://a.example/x?y=1", "https://a.example/x?y=1&click_id=K"),
        ("https://a.example/x?y=1&", "https://a.example/x?y=1&click_id=K"),
        ("https://a.example/x#f", "https://a.example/x?click_id=K#f"),
        ("https://a.example/x?y=%2F&z=a+b#f?g=1", "https://a.example/x?y=%2F&z=a+b&click_id=K#f?g=1"),
        ("https://a.example/#/route?x=1", "https://a.example/?click_id=K#/route?x=1"),
        ("https://a.example/x?click_id=old&y=1", "https://a.example/x?y=1&click_id=K"),
        ("https://a.example/x?my_click_id=keep", "https://a.example/x?my_click_id=keep&click_id=K"),
    ],
)
def test_the_click_id_goes_into_the_query(page: str, expected: str) -> None:
    """Whatever the landing page looks like: its own query and fragment stay."""
    assert with_click_id(page, "K") == expected


OPEN_REDIRECTS = [
    "/c/ada/shoes?url=https://evil.example",
    "/c/ada/shoes?landing_url=https://evil.example&redirect=https://evil.example&next=//evil.example",
    "/c/ada/shoes?click_id=https://evil.example",
    "/c/ada/shoes?sub1=%0d%0aLocation:%20https://evil.example%0d%0a%0d%0a<script>",
    "/c/ada/shoes?visitor_id=%0d%0aSet-Cookie:%20a=b",
    "/c/ada/shoes?%0d%0aLocation:https://evil.example",
    "/c/ada/shoes#@evil.example",
    "/c/ada//evil.example",
    "/c/ada/https:%2F%2Fevil.example",
    "/c/ada/%2F%2Fevil.example",
    "/c/ada/shoes%0d%0aLocation:%20https:%2F%2Fevil.example",
    "/c/ada/shoes@evil.example",
    "/c/ada@evil.example/shoes",
    "/c/ada/shoes/https://evil.example",
    "/c//evil.example/shoes",
    "/c/ada/shoes/..%2f..%2fevil.example",
    "/c/ada/shoes%00.evil.example",
    "/c/ada/.evil.example",
    "/c/ada/shoes?x=https://evil.example/%5c%5cevil.example",
]


def test_no_request_chooses_where_the_link_leads(world: World) -> None:
    """A redirect always goes to the stored host and path; anything else is no redirect at all."""
    headers = {
        "Host": "evil.example",
        "X-Forwarded-Host": "evil.example",
        "Referer": "https://evil.example/",
        "X-Original-URL": "https://evil.example/",
    }
    followed = 0
    for path in OPEN_REDIRECTS:
        said = world.follow(f"{world.prefix}{path}", headers=headers)
        assert "evil" not in "".join(said.headers.values()), path
        if said.status_code == 302:
            followed += 1
            target = urlsplit(said.location)
            assert (target.scheme, target.netloc, target.path) == ("https", "shop.example", "/shoes"), path
            assert [name for name, _ in parse_qsl(target.query)] == ["ref", "click_id"], path
        else:
            assert said.status_code in (400, 404), path
            assert "Location" not in said.headers, path
    assert followed >= 7


def test_a_stored_page_that_is_none_is_never_followed() -> None:
    """Pages are checked when they are stored, and once more on the way out, for one that got in by another way."""
    assert links.checked_page(OfferState("shoes", "", LANDING, [])) == LANDING
    for page in (
        "//evil.example", "javascript:alert(1)", "data:text/html,x", "ftp://a.example/", "/local", "https:///x",
        "https://a.example\r\nSet-Cookie: x=1", "https://a.example/\tx", "https://shop.example@evil.example/",
        "https://shop.example\\@evil.example", "https://a.example/ x", " https://a.example", "https://[::1",
        "https://a.example:99999/", "", "https://a.example／evil",
    ):  # fmt: skip
        assert links.checked_page(OfferState("shoes", "", page, [])) == "", page


def test_a_page_of_another_script_is_sent_as_ascii(world: World) -> None:
    """Headers are ASCII: host names as punycode, the rest percent-encoded, what was encoded left alone."""
    world.publish("https://bücher.example/größe/%C3%A9?q=ä&x=%2F#ü", "books")
    said = world.follow(f"{world.prefix}/c/ada/books")
    assert said.status_code == 302
    assert said.location.isascii()
    expected = "https://xn--bcher-kva.example/gr%C3%B6%C3%9Fe/%C3%A9?q=%C3%A4&x=%2F&click_id="
    assert said.location.startswith(expected)
    assert said.location.endswith("#%C3%BC")


def test_what_does_not_exist_is_not_found(world: World) -> None:
    """Unknown programs, affiliates and offers answer 404 problems; so does an offer without a landing page."""
    world.publish("", "plain")
    for path in (
        f"{world.prefix}/c/eve/shoes",
        f"{world.prefix}/c/ada/hats",
        f"{world.prefix}/c/ada/plain",
        "/v1/programs/nope/c/ada/shoes",
    ):
        for _ in range(2):
            said = world.follow(path)
            assert (said.status_code, said.mimetype) == (404, "application/problem+json"), path
    world.clicks(0)


def test_suspended_and_closed_affiliates_still_lead_to_the_shop(world: World) -> None:
    """The visitor did nothing wrong; the click is recorded, and attribution decides later."""
    for affiliate_id, decision in (("ada", "suspend"), ("bob", "close")):
        world.ledger.execute(world.program, DecideAffiliate(affiliate_id=affiliate_id, decision=decision), by())
        assert world.follow(f"{world.prefix}/c/{affiliate_id}/shoes").status_code == 302
    assert [one["affiliate_id"] for one in world.clicks(2)] == ["ada", "bob"]


def test_a_new_landing_page_and_a_new_affiliate_count_within_seconds(world: World) -> None:
    """Memory is refreshed while the database is there."""
    world.follow()
    assert world.follow(f"{world.prefix}/c/new/shoes").status_code == 404
    world.ledger.execute(world.program, EnrolAffiliate(affiliate_id="new"), by())
    world.publish("https://shop.example/other")
    changed = time.monotonic()
    until(lambda: world.follow().location.startswith("https://shop.example/other?"))
    until(lambda: world.follow(f"{world.prefix}/c/new/shoes").status_code == 302)
    assert time.monotonic() - changed < links.FRESH_SECONDS + links.WAIT_SECONDS + 1.5


def test_the_first_visitor_after_a_pause_gets_the_page_of_now(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that nobody visits is not refreshed, and yet nobody is sent where it led an hour ago."""
    monkeypatch.setattr(links, "REFRESH_SECONDS", 3600.0)
    monkeypatch.setattr(links, "FRESH_SECONDS", 0.0)
    memory = Links(world.ledger.pool)
    assert memory.landing_page(world.program, "ada", "shoes") == LANDING
    world.publish("https://shop.example/other")
    assert memory.landing_page(world.program, "ada", "shoes") == "https://shop.example/other"
    memory.close()


# --- what is kept of a visit -------------------------------------------------------------------------------


def test_subs_referrer_and_browser_are_kept_as_ciphertext_and_the_address_as_a_hash(world: World) -> None:
    """Kept within limits, and found in no row."""
    canary = "Canary-Jane"
    link = f"{world.link}?sub1={canary}&sub2=b&sub3=c&sub4=d&sub5={'e' * 3000}&sub6=no&visitor_id=v-1"
    headers = {"Referer": f"https://blog.example/{canary}", "User-Agent": f"{canary}/1.0"}
    world.follow(link, headers=headers, environ_base={"REMOTE_ADDR": "203.0.113.77"})
    (click,) = world.clicks(1)
    assert canary not in str(click)
    assert "203.0.113.77" not in str(click)
    assert click["visitor_id"] == "v-1"
    assert click["personal_key"].startswith("traffic:")
    assert world.personal(click) == {
        "sub1": canary, "sub2": "b", "sub3": "c", "sub4": "d", "sub5": "e" * 500,
        "referrer": f"https://blog.example/{canary}", "user_agent": f"{canary}/1.0",
    }  # fmt: skip


def test_a_bad_visitor_id_does_not_stop_the_visitor(world: World) -> None:
    """An e-mail address is not stored; the visitor still arrives."""
    assert world.follow(f"{world.link}?visitor_id=jane@example.com").status_code == 302
    assert "visitor_id" not in world.clicks(1)[0]


def test_a_visitor_who_clicks_again_at_once_is_flagged(world: World) -> None:
    """Same address, browser, affiliate and offer: a duplicate. Any of them differs: not."""
    here = {"REMOTE_ADDR": "203.0.113.1"}
    other = {"REMOTE_ADDR": "203.0.113.2"}
    for environ, agent, link in (
        (here, "A", world.link),
        (here, "A", world.link),
        (other, "A", world.link),
        (here, "B", world.link),
        (here, "A", f"{world.prefix}/c/bob/shoes"),
    ):
        world.follow(link, headers={"User-Agent": agent}, environ_base=environ)
    assert [one.get("duplicate", False) for one in world.clicks(5)] == [False, True, False, False, False]


def test_the_memory_of_visitors_is_short_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """After ten seconds it is a new visit; of a flood only the latest are remembered."""
    now = [100.0]
    monkeypatch.setattr("api.tracking.time.monotonic", lambda: now[0])
    monkeypatch.setattr("api.tracking.MOST_VISITORS", 3)
    visitors = Visitors()
    assert not visitors.seen_before("ada")
    now[0] += 10
    assert visitors.seen_before("ada")
    now[0] += 10.1
    assert not visitors.seen_before("ada")
    for name in "xyz":
        visitors.seen_before(name)
    assert not visitors.seen_before("ada"), "pushed out"


def test_a_prefetching_browser_is_refused_so_that_it_comes_back(world: World) -> None:
    """No click, no token; not cacheable."""
    for headers in (
        {"Sec-Purpose": "prefetch"}, {"Sec-Purpose": "prefetch;prerender"}, {"Purpose": "prefetch"},
        {"X-Moz": "prefetch"},
    ):  # fmt: skip
        said = world.follow(headers=headers)
        assert said.status_code == 403
        assert said.headers["Cache-Control"] == "no-store"
        assert "Location" not in said.headers
    world.clicks(0)


def test_head_shows_the_target_and_makes_no_click(world: World) -> None:
    """Link checkers see where it leads, and are no visitors."""
    said = world.client.head(world.link)
    assert (said.status_code, said.location) == (302, LANDING)
    world.clicks(0)


# --- limits ------------------------------------------------------------------------------------------------


def test_a_flooding_address_is_slowed_down_and_others_are_not(ledger: CommissionLedger) -> None:
    """429 with Retry-After beyond the burst; a forged X-Forwarded-For is not another address."""
    with serving(ledger, TRACKING_PER_SECOND=0.01, TRACKING_BURST=3) as app:
        world = World(app)
        statuses = [world.follow(headers={"X-Forwarded-For": f"198.51.100.{n}"}).status_code for n in range(5)]
        assert statuses == [302, 302, 302, 429, 429]
        said = world.follow()
        assert said.mimetype == "application/problem+json"
        assert 1 <= int(said.headers["Retry-After"]) <= 101
        assert world.follow(environ_base={"REMOTE_ADDR": "203.0.113.2"}).status_code == 302
        world.clicks(4)


def test_behind_a_trusted_proxy_each_visitor_has_a_bucket(ledger: CommissionLedger) -> None:
    """TRUSTED_PROXIES says how many entries of X-Forwarded-For are ours."""
    with serving(ledger, TRACKING_PER_SECOND=0.01, TRACKING_BURST=1, TRUSTED_PROXIES=1) as app:
        world = World(app)

        def follow(forwarded: str) -> int:
            status: int = world.follow(headers={"X-Forwarded-For": forwarded}).status_code
            return status

        assert follow("198.51.100.1") == 302
        assert follow("198.51.100.2") == 302
        assert follow("198.51.100.1") == 429
        assert follow("6.6.6.6, 198.51.100.1") == 429, "what the stranger wrote in front does not count"


def test_the_limits_can_be_set_by_the_environment(ledger: CommissionLedger, monkeypatch: pytest.MonkeyPatch) -> None:
    """As operators set things; what is no number is named."""
    monkeypatch.setenv("LEDGER_TRACKING_BURST", "2")
    monkeypatch.setenv("LEDGER_TRACKING_PER_SECOND", "0.5")
    monkeypatch.setenv("LEDGER_TRUSTED_PROXIES", "1")
    here = Tracking(ledger, {})
    assert here.trusted_proxies == 1
    assert [here.limiter.take("a") == 0.0 for _ in range(3)] == [True, True, False]
    monkeypatch.setenv("LEDGER_TRACKING_BURST", "many")
    with pytest.raises(ValueError, match="LEDGER_TRACKING_BURST"):
        Tracking(ledger, {})


# --- memory ------------------------------------------------------------------------------------------------


class Counting:
    """A pool that counts how often it is asked for a connection."""

    def __init__(self, pool: Any) -> None:
        self.pool, self.asked = pool, 0

    def connection(self, *args: Any, **kwargs: Any) -> Any:
        self.asked += 1
        return self.pool.connection(*args, **kwargs)


def test_made_up_names_neither_fill_memory_nor_hammer_the_database(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One name asked for over and over costs a query a second; many names are remembered up to a bound."""
    monkeypatch.setattr(links, "MOST_UNKNOWN", 50)
    pool, program = Counting(world.ledger.pool), world.program
    memory = Links(pool)  # type: ignore[arg-type]
    memory.landing_page(program, "ada", "shoes")
    until(lambda: len(memory._programs) > 1 or pool.asked > 1)
    known, asked, began = len(memory._programs), pool.asked, time.monotonic()
    for _ in range(2000):
        with pytest.raises(NotFound):
            memory.landing_page(program, "ada", "hats")
    # a question each UNKNOWN_SECONDS, one each REFRESH_SECONDS, and those of the warming up
    assert pool.asked - asked <= 10 + 2 * (time.monotonic() - began)
    for number in range(200):
        for names in ((program, f"x{number}", "shoes"), (program, "ada", f"x{number}"), (f"x{number}", "a", "b")):
            with pytest.raises(NotFound):
                memory.landing_page(*names)
    assert len(memory._unknown) <= 50
    assert len(memory._programs) <= max(known, 40)
    assert len(memory._affiliates) == 1
    memory.close()


def test_programs_nobody_asked_about_are_known_when_an_outage_begins(database: Database) -> None:
    """The memory warms up by itself: the first visitor of a program may come while the database is down."""
    with open_ledger(database) as ledger:
        for program in (PROGRAM, "other"):
            open_shop(ledger, program)
        ledger.open_program(OpenProgram(program="empty", currency="EUR"), by())
        ledger.execute(PROGRAM, PublishOffer(offer_id="shoes", landing_url=LANDING), by())
        memory = Links(ledger.pool)
        memory.start()
        until(lambda: set(memory._programs) >= {PROGRAM, "other", "empty"})
        ledger.pool.close()
        assert memory.landing_page(PROGRAM, "ada", "shoes") == LANDING
        with pytest.raises(Unavailable):
            memory.landing_page(PROGRAM, "ada", "never-seen")
        with pytest.raises(Unavailable):
            memory.landing_page("never-seen", "ada", "shoes")
        assert memory.landing_page(PROGRAM, "taken-on-trust", "shoes") == LANDING
        assert not memory.healthy
        memory.close()
