"""Rate limits for those who need no key: a token bucket for each client address, in this process's memory."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address

MOST_CLIENTS = 20_000
# A household or a host is given a whole /64 (RFC 6177), so single IPv6 addresses cost an attacker nothing.
IPV6_PREFIX_BITS = 64


class RateLimiter:
    """Token buckets. per_second: the rate that is sustained; burst: what may come at once. Thread-safe.

    Only the most_clients that were seen last are remembered. Whoever is forgotten starts with a full bucket, so
    that a flood of addresses can cost accuracy, but never memory. Each process counts for itself.
    """

    def __init__(
        self,
        per_second: float,
        burst: int,
        *,
        most_clients: int = MOST_CLIENTS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if per_second <= 0 or burst < 1:
            raise ValueError("per_second must be above 0 and burst at least 1")
        self._rate, self._burst, self._most = per_second, float(burst), most_clients
        self._clock = clock
        self._lock = threading.Lock()
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # client → (tokens, as of)

    def take(self, client: str) -> float:
        """Take one token. Returns 0.0 when there was one, else the seconds until there will be."""
        with self._lock:
            now = self._clock()
            tokens, since = self._buckets.get(client, (self._burst, now))
            tokens = min(self._burst, tokens + (now - since) * self._rate)
            wait = 0.0 if tokens >= 1 else (1 - tokens) / self._rate
            self._buckets[client] = (tokens if wait else tokens - 1, now)
            self._buckets.move_to_end(client)
            if len(self._buckets) > self._most:
                self._buckets.popitem(last=False)
            return wait

    def __len__(self) -> int:
        """How many clients are remembered."""
        return len(self._buckets)


def client_address(remote: str | None, forwarded_for: str | None, trusted_proxies: int) -> str:
    """Who asks: the peer, or what the trusted_proxies in front of us say of theirs.

    Each proxy appends the address it was asked from to X-Forwarded-For. The entry that our outermost proxy wrote
    therefore stands trusted_proxies from the right, and everything before it was written by strangers.
    """
    peer = remote or ""
    if trusted_proxies <= 0 or not forwarded_for:
        return peer
    entries = [entry.strip() for entry in forwarded_for.split(",")]
    if len(entries) < trusted_proxies:
        return peer
    return _without_port(entries[-trusted_proxies]) or peer


def _without_port(entry: str) -> str:
    """The address in '192.0.2.1', '192.0.2.1:443', '2001:db8::1' or '[2001:db8::1]:443'; '' when there is none."""
    text = entry
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        return str(ip_address(text))
    except ValueError:
        return ""


def bucket_of(address: str) -> str:
    """Whose bucket an address draws from: its own for IPv4, its /64's for IPv6."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return "unknown"
    if isinstance(parsed, IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return f"{int(parsed) >> (128 - IPV6_PREFIX_BITS):x}::/64"
    return str(parsed)
