"""Groups of affiliates, and who recruited whom: what plans look at beside the sale."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest
from api_world import World, make_world, open_service
from memory_view import MemoryView, shop

from ledger.domain import affiliate
from ledger.domain.affiliate import (
    AffiliateEnrolled,
    AffiliateGrouped,
    AffiliateRecruited,
    DecideAffiliate,
    GroupAffiliate,
    RecruitAffiliate,
)
from ledger.domain.errors import InvalidInput, NotFound, WrongState
from ledger.store.database import Database

DAY = timedelta(days=1)


def group(name: str, effective_from: datetime | None = None, affiliate_id: str = "ada") -> GroupAffiliate:
    return GroupAffiliate(affiliate_id=affiliate_id, group=name, effective_from=effective_from)


def recruit(affiliate_id: str, recruiter_id: str) -> RecruitAffiliate:
    return RecruitAffiliate(affiliate_id=affiliate_id, recruiter_id=recruiter_id)


def groups_of(view: MemoryView, *days: int) -> list[str]:
    """ada's group, so many days from now."""
    return [view.affiliate("ada").group_at(view.now + day * DAY) for day in days]


# --- groups ------------------------------------------------------------------------------------------------


def test_a_group_counts_from_its_instant_on() -> None:
    """Nobody is in one before; a planned one waits; leaving it is another entry."""
    view = shop()
    now = view.now
    assert view.one(AffiliateGrouped, group("gold")).effective_from == now
    view.when(group("silver", now + 10 * DAY))
    view.when(group("", now + 20 * DAY))
    assert groups_of(view, -1, 0, 9, 10, 19, 20, 99) == ["", "gold", "gold", "silver", "silver", "", ""]


def test_of_two_groups_from_one_instant_the_last_recorded_counts() -> None:
    """So a plan can be changed before its day; an earlier day recorded later stays behind it."""
    view = shop()
    view.when(group("gold", view.now + 10 * DAY))
    view.when(group("silver", view.now + 10 * DAY))
    view.when(group("bronze", view.now + 5 * DAY))
    assert groups_of(view, 4, 5, 9, 10) == ["", "bronze", "bronze", "silver"]


def test_the_same_group_again_changes_nothing() -> None:
    """With and without an instant, also once time went on and once another is planned."""
    view = shop()
    assert view.when(group(""))[0].outcome == "unchanged"  # as enrolled
    first = view.again(group("gold"))
    start = view.now + 10 * DAY
    planned = view.again(group("gold", start))
    assert planned.outcome == "recorded"  # so that it is gold then, whatever is said of the days between
    view.now += 3 * DAY
    assert view.when(group("gold"))[0] == affiliate.Answer("unchanged", first.body, first.position)
    view.now += 30 * DAY
    again, events = view.when(group("gold", start))
    assert (again.outcome, again.body, again.position, events) == ("unchanged", planned.body, planned.position, [])
    assert view.one(AffiliateGrouped, group("silver")).effective_from == view.now
    assert view.one(AffiliateGrouped, group("gold")).effective_from == view.now


def test_a_group_never_reaches_back_behind_now() -> None:
    """What was sold stays as it was priced; now itself is allowed."""
    view = shop()
    refused = view.refused(InvalidInput, group("gold", view.now - timedelta(microseconds=1)))
    assert refused.field == "effective_from"
    assert view.again(group("gold", view.now)).outcome == "recorded"


@pytest.mark.parametrize("name", ["Gold", "gold ", "a.b", "ä", "x" * 41, "gold\n"])
def test_a_group_has_a_plain_name(name: str) -> None:
    """Lower-case letters, digits, _ and -; up to 40."""
    with pytest.raises(InvalidInput) as refused:
        group(name)
    assert refused.value.field == "group"


def test_only_an_affiliate_has_a_group() -> None:
    """And its standing is not touched by it: a suspended one is reinstated as before."""
    view = shop()
    view.refused(NotFound, group("gold", affiliate_id="nobody"))
    view.when(DecideAffiliate(affiliate_id="ada", decision="suspend", reason="why"))
    view.when(group("x" * 40))
    assert (view.affiliate("ada").status, view.affiliate("ada").decisions) == ("suspended", 2)
    view.when(DecideAffiliate(affiliate_id="ada", decision="reinstate"))
    assert view.affiliate("ada").status == "approved"


# --- recruiters --------------------------------------------------------------------------------------------


def test_a_recruiter_is_said_once_and_for_ever() -> None:
    """The same again is the first answer again; another one is refused, and named."""
    view = shop()
    view.given("affiliate:cat", AffiliateEnrolled(affiliate_id="cat"))
    assert view.affiliate("ada").recruiter_id == ""
    view.again(recruit("ada", "bob"))
    view.when(group("gold"))
    assert view.affiliate("ada").recruiter_id == "bob"
    assert view.refused(WrongState, recruit("ada", "cat")).details == {"recruiter_id": "bob"}
    view.again(recruit("cat", "bob"))


def test_a_recruiter_is_another_affiliate_who_is_there() -> None:
    """Not oneself, not somebody unknown; nor for somebody unknown."""
    with pytest.raises(InvalidInput):
        recruit("ada", "ada")
    view = shop()
    view.refused(NotFound, recruit("ada", "nobody"))
    view.refused(NotFound, recruit("nobody", "ada"))


def test_recruiting_never_goes_in_a_circle() -> None:
    """Neither of two nor over others; beside each other they may."""
    view = shop()
    for affiliate_id in ("cat", "dan"):
        view.given(f"affiliate:{affiliate_id}", AffiliateEnrolled(affiliate_id=affiliate_id))
    view.when(recruit("bob", "ada"))
    view.when(recruit("cat", "bob"))
    assert view.refused(InvalidInput, recruit("ada", "bob")).field == "recruiter_id"
    assert view.refused(InvalidInput, recruit("ada", "cat")).field == "recruiter_id"
    view.again(recruit("dan", "ada"))


def test_a_chain_of_recruiters_is_at_most_fifty_long() -> None:
    """The 50th is taken, the 51st refused: whoever walks up comes to an end."""
    view = MemoryView()
    view.given("affiliate:a0", AffiliateEnrolled(affiliate_id="a0"))
    for number in range(1, 51):
        view.given(f"affiliate:a{number}", AffiliateEnrolled(affiliate_id=f"a{number}"))
        assert view.one(AffiliateRecruited, recruit(f"a{number}", f"a{number - 1}"))
    view.given("affiliate:a51", AffiliateEnrolled(affiliate_id="a51"))
    assert "50" in view.refused(InvalidInput, recruit("a51", "a50")).message


# --- over HTTP ---------------------------------------------------------------------------------------------


@pytest.fixture
def world(database: Database) -> Iterator[World]:
    with open_service(database) as app:
        yield make_world(app)


def test_groups_and_recruiters_over_http(world: World) -> None:
    """Put by an admin, shown in the record; an affiliate sees its group, and not who recruited it."""
    path = "/affiliates/uk"
    put = world.call("admin", "PUT", f"{path}/group", {"group": "gold"})
    assert (put.status_code, put.json["effective_from"]) == (201, "2026-06-01T00:00:00Z")
    again = world.call("admin", "PUT", f"{path}/group", {"group": "gold"})
    assert (again.status_code, again.json) == (200, put.json)
    later = {"group": "silver", "effective_from": "2026-06-02T02:00:00+02:00"}
    assert world.call("admin", "PUT", f"{path}/group", later).json["effective_from"] == "2026-06-02T00:00:00Z"
    behind = world.call("admin", "PUT", f"{path}/group", later | {"effective_from": "2026-05-31T00:00:00Z"})
    assert (behind.status_code, behind.json["errors"][0]["pointer"]) == (422, "/effective_from")
    assert world.call("admin", "PUT", f"{path}/group", {"group": "Gold"}).status_code == 422
    assert world.call("finance_maker", "PUT", f"{path}/group", {"group": "gold"}).status_code == 403
    assert world.call("admin", "PUT", f"{path}/recruiter", {"recruiter_id": "fr"}).status_code == 201
    assert world.call("admin", "PUT", f"{path}/recruiter", {"recruiter_id": "fr"}).status_code == 200
    circle = world.call("admin", "PUT", "/affiliates/fr/recruiter", {"recruiter_id": "uk"})
    assert (circle.status_code, circle.json["errors"][0]["pointer"]) == (422, "/recruiter_id")
    assert world.call("admin", "PUT", f"{path}/recruiter", {"recruiter_id": "nobody"}).status_code == 409
    shown = world.call("auditor", "GET", path).json
    assert (shown["group"], shown["recruiter_id"]) == ("gold", "fr")
    listed = world.call("finance_maker", "GET", "/affiliates?group=gold").json
    assert [(one["affiliate_id"], one["group"], one["recruiter_id"]) for one in listed["items"]] == [
        ("uk", "gold", "fr")
    ]
    assert world.call("auditor", "GET", "/affiliates?group=silver").json == {"items": [], "next": None}
    everybody = world.call("auditor", "GET", "/affiliates?limit=1").json
    assert (everybody["items"][0]["group"], bool(everybody["next"])) == ("", True)
    assert world.call("auditor", "GET", "/affiliates?group=Gold").status_code == 422
    own = world.call("affiliate", "GET", path).json
    assert own["group"] == "gold"
    assert "recruiter_id" not in own
    timeline = world.call("affiliate", "GET", f"{path}/timeline").json["items"]
    assert "uk is in the group gold from 2026-06-01 00:00 UTC on." in [one["sentence"] for one in timeline]
    assert "AffiliateRecruited" not in {one["topic"] for one in timeline}
    world.now += DAY
    assert world.call("auditor", "GET", path).json["group"] == "silver"
