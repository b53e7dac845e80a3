"""Strangers may ask, at a rate: token buckets, and whose bucket it is."""

from __future__ import annotations

import pytest

from api.ratelimit import RateLimiter, bucket_of, client_address


class Seconds:
    """A monotonic clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_burst_passes_and_then_the_rate_holds() -> None:
    """Three at once, then one every half second; the wait that is told is enough."""
    clock = Seconds()
    limiter = RateLimiter(2.0, 3, clock=clock)
    assert [limiter.take("a") for _ in range(3)] == [0.0, 0.0, 0.0]
    wait = limiter.take("a")
    assert wait == pytest.approx(0.5)
    assert limiter.take("b") == 0.0, "another client has its own bucket"
    clock.now += wait
    assert limiter.take("a") == 0.0
    assert limiter.take("a") > 0


def test_asking_in_vain_does_not_push_the_wait_out() -> None:
    """A client that keeps hammering still gets its rate."""
    clock = Seconds()
    limiter = RateLimiter(1.0, 1, clock=clock)
    granted = 0
    for _ in range(100):
        granted += limiter.take("a") == 0.0
        clock.now += 0.1
    assert 10 <= granted <= 11


def test_a_long_pause_fills_the_bucket_to_the_burst_and_no_further() -> None:
    """Nobody saves up for a flood."""
    clock = Seconds()
    limiter = RateLimiter(10.0, 2, clock=clock)
    limiter.take("a")
    clock.now += 3600
    assert [limiter.take("a") == 0.0 for _ in range(3)] == [True, True, False]


def test_a_flood_of_addresses_does_not_fill_memory() -> None:
    """Only the last clients are remembered."""
    limiter = RateLimiter(1.0, 1, most_clients=50)
    for number in range(1000):
        limiter.take(f"client-{number}")
    assert len(limiter) == 50
    assert limiter.take("client-999") > 0, "the latest is still known"


@pytest.mark.parametrize(
    ("forwarded", "proxies", "expected"),
    [
        ("203.0.113.9", 0, "10.0.0.1"),
        (None, 1, "10.0.0.1"),
        ("203.0.113.9", 1, "203.0.113.9"),
        ("6.6.6.6, 203.0.113.9", 1, "203.0.113.9"),
        ("6.6.6.6, 203.0.113.9, 10.0.0.7", 2, "203.0.113.9"),
        ("203.0.113.9", 2, "10.0.0.1"),
        ("203.0.113.9:4711", 1, "203.0.113.9"),
        ("[2001:db8::1]:443", 1, "2001:db8::1"),
        ("2001:db8::1", 1, "2001:db8::1"),
        ("unknown", 1, "10.0.0.1"),
        ("", 1, "10.0.0.1"),
        ("<script>", 1, "10.0.0.1"),
    ],
)
def test_what_a_stranger_writes_into_forwarded_for_is_not_believed(
    forwarded: str | None, proxies: int, expected: str
) -> None:
    """Only as many entries as there are proxies of our own count, from the right."""
    assert client_address("10.0.0.1", forwarded, proxies) == expected


def test_a_household_has_one_bucket() -> None:
    """An IPv6 client owns a /64: all of it is one client; IPv4 written as IPv6 is the IPv4 client."""
    assert bucket_of("2001:db8:1:2::1") == bucket_of("2001:db8:1:2:ffff::9")
    assert bucket_of("2001:db8:1:2::1") != bucket_of("2001:db8:1:3::1")
    assert bucket_of("::ffff:192.0.2.1") == bucket_of("192.0.2.1")
    assert bucket_of("192.0.2.1") != bucket_of("192.0.2.2")
    assert bucket_of("no address") == bucket_of("")
