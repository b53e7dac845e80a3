"""A bank outside our walls that misbehaves on purpose, the same way for the same seed.

It times out before, after and long before accepting an order; settles days later; returns payments that it had
settled; takes fees, on lines of their own or inside a payment; and repeats lines of earlier days in later statements.
It never pays an order twice, and never pays what it did not accept: that is for others to spoil.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from datetime import date, timedelta
from random import Random
from typing import Literal, NamedTuple
from xml.sax.saxutils import escape

from ledger.domain.money import EXPONENTS, major_units

Fate = Literal["paid", "returned", "never"]
Answer = Literal["accepted", "settled", "returned", "rejected", "unknown"]
Form = Literal["camt", "mt940", "csv"]
ACCOUNT = "DE89370400440532013000"
CSV_HEADING = (
    "Auftragskonto;Buchungstag;Valuta;Betrag;Währung;End-to-End-Referenz;Bankreferenz;Buchungsart;Verwendungszweck;"
    "Name;Entgelt"
)
# kind → ISO family and subfamily, SWIFT type, German business transaction code, the CSV's word
CODES = {
    "payment": ("ICDT", "ESCT", "NTRF", "116", "Überweisung"),
    "return": ("ICDT", "RRTN", "NRTI", "159", "Rücküberweisung"),
    "fee": ("MDOP", "CHRG", "NCHG", "808", "Entgelt"),
}


class Timeout(Exception):
    """The bank did not answer; whether it did anything is not known."""


class Refused(Exception):
    """The bank knows this payout id already, and does nothing."""


class Booked(NamedTuple):
    """A booking on our account. amount: signed minor units, charges inside it."""

    booking_on: date
    amount: int
    currency: str
    end_to_end_id: str
    bank_reference: str
    kind: str
    charges: int


class Order(NamedTuple):
    """A payment that the bank was told to make."""

    payout_id: str
    amount: int
    currency: str


class FakeBank:
    """The bank. today moves by next_day() only; run_out() moves it until nothing more will happen.

    timeouts: of 100 submissions; query_timeouts, returns, rejections, fees: of 100 as well. Safe to call from many
    threads; what happens to a payout depends on seed, its id and how often it was submitted, not on the order of calls.
    """

    def __init__(
        self,
        seed: int = 0,
        *,
        start: date = date(2026, 1, 5),
        timeouts: int = 30,
        query_timeouts: int = 20,
        returns: int = 6,
        rejections: int = 1,
        fees: int = 10,
    ) -> None:
        self.today = self.first_day = start
        self._seed = seed
        self._timeouts, self._query_timeouts = timeouts, query_timeouts
        self._returns, self._rejections, self._fees = returns, rejections, fees
        self._lock = threading.Lock()
        self._calls: dict[tuple[str, str], int] = defaultdict(int)
        self._seen: set[str] = set()
        self._on_the_way: dict[date, list[Order]] = defaultdict(list)
        self._accepted: dict[str, Order] = {}
        self._fate: dict[str, Fate] = {}
        self._settles: dict[str, date] = {}
        self._returned: dict[str, date] = {}
        self._lines: dict[date, list[Booked]] = defaultdict(list)

    def _random(self, *about: object) -> Random:
        return Random(":".join(str(part) for part in (self._seed, *about)))

    def _next_call(self, what: str, payout_id: str) -> int:
        self._calls[what, payout_id] += 1
        return self._calls[what, payout_id]

    def submit(self, payout_id: str, amount: int, currency: str) -> Literal["accepted"]:
        """Order a payment (minor units). Raises Timeout, with or without accepting it (or accepting it only a day
        later), and Refused for an id that it has accepted."""
        with self._lock:
            self._seen.add(payout_id)
            chance = self._random(payout_id, "submit", self._next_call("submit", payout_id))
            order = Order(payout_id, amount, currency)
            if chance.randrange(100) < self._timeouts:
                what = chance.choice(("before", "after", "later"))
                if what == "after" and payout_id not in self._accepted:
                    self._accept(order)
                elif what == "later":
                    self._on_the_way[self.today + timedelta(days=1)].append(order)
                raise Timeout(payout_id)
            if payout_id in self._accepted:
                raise Refused(payout_id)
            self._accept(order)
            return "accepted"

    def query(self, payout_id: str) -> Answer:
        """What the bank knows of a payout. 'unknown' may become 'accepted' a day later. Raises Timeout."""
        with self._lock:
            chance = self._random(payout_id, "query", self._next_call("query", payout_id))
            if chance.randrange(100) < self._query_timeouts:
                raise Timeout(payout_id)
            if payout_id not in self._accepted:
                return "unknown"
            if self._returned.get(payout_id, date.max) <= self.today:
                return "returned"
            if self._settles.get(payout_id, date.max) <= self.today:
                return "settled"
            return "rejected" if self._fate[payout_id] == "never" else "accepted"

    def _accept(self, order: Order) -> None:
        """Decide all that will ever happen to it."""
        payout_id = order.payout_id
        self._accepted[payout_id] = order
        chance = self._random(payout_id, "fate")
        if chance.randrange(100) < self._rejections:
            self._fate[payout_id] = "never"
            return
        settles = self.today + timedelta(days=chance.choice((0, 1, 1, 1, 2, 3, 5)))
        fee = max(1, chance.randrange(5, 250) * 10 ** EXPONENTS[order.currency] // 100)
        charged = chance.randrange(100) < self._fees
        inside = fee if charged and chance.randrange(2) else 0
        reference = f"{chance.randrange(16**10):010X}"
        self._fate[payout_id], self._settles[payout_id] = "paid", settles
        self._book(settles, -order.amount - inside, order, f"{reference}P", "payment", inside)
        if charged and not inside:
            self._book(settles, -fee, order, f"{reference}F", "fee")
        if chance.randrange(100) < self._returns:
            back = settles + timedelta(days=chance.randrange(1, 12))
            self._fate[payout_id], self._returned[payout_id] = "returned", back
            self._book(back, order.amount, order, f"{reference}R", "return")
            if chance.randrange(2):
                self._book(back, -fee, order, f"{reference}G", "fee")

    def _book(self, on: date, amount: int, order: Order, reference: str, kind: str, charges: int = 0) -> None:
        end_to_end_id = "" if kind == "fee" else order.payout_id
        self._lines[on].append(Booked(on, amount, order.currency, end_to_end_id, reference, kind, charges))

    def next_day(self) -> date:
        """The next day begins; orders that were on their way arrive, unless they did already."""
        with self._lock:
            self.today += timedelta(days=1)
            for order in self._on_the_way.pop(self.today, []):
                if order.payout_id not in self._accepted:
                    self._accept(order)
            return self.today

    def run_out(self) -> list[date]:
        """Let days pass until nothing more will happen. Returns every day from the first."""
        while self._on_the_way or self.today < self.last_day:
            self.next_day()
        return [self.first_day + timedelta(days=at) for at in range((self.today - self.first_day).days + 1)]

    @property
    def last_day(self) -> date:
        """The last day on which something is booked."""
        return max(self._lines, default=self.first_day)

    @property
    def truth(self) -> dict[str, Fate]:
        """What really becomes of every payout that was ever submitted."""
        return {payout_id: self._fate.get(payout_id, "never") for payout_id in sorted(self._seen)}

    def total(self, currency: str) -> int:
        """What all bookings together moved: minor units, below zero for money that left our account."""
        return sum(line.amount for lines in self._lines.values() for line in lines if line.currency == currency)

    def fees(self, currency: str) -> int:
        """What the bank took: its own lines, and charges inside payments (minor units above zero)."""
        lines = [line for lines in self._lines.values() for line in lines if line.currency == currency]
        return sum(line.charges - (line.amount if line.kind == "fee" else 0) for line in lines)

    # --- statements ------------------------------------------------------------------------------------------

    def booked(self, day: date) -> list[Booked]:
        """What was booked on a day, each booking once."""
        return sorted(self._lines.get(day, []), key=lambda line: line.bank_reference)

    def told(self, day: date) -> list[Booked]:
        """What a day's statement holds: that day's bookings, and some of the three days before once more."""
        chance = self._random("repeats", day)
        earlier = [line for back in (3, 2, 1) for line in self.booked(day - timedelta(days=back))]
        return [line for line in earlier if chance.randrange(100) < 5] + self.booked(day)

    def statement(self, day: date, form: Form = "camt") -> bytes:
        """A valid file of what told() says, one statement for each currency; the opening balance is what makes the
        lines add up, repeated ones included."""
        by_currency: dict[str, list[Booked]] = defaultdict(list)
        currencies = sorted({order.currency for order in self._accepted.values()}) or ["EUR"]
        for line in self.told(day):
            by_currency[line.currency].append(line)
        write = {"camt": _camt, "mt940": _mt940, "csv": _csv}[form]
        parts = [
            (currency, self._closing(day, currency), by_currency[currency])
            for currency in currencies
            if by_currency[currency] or form != "csv"
        ]
        return write(day, parts)

    def _closing(self, day: date, currency: str) -> int:
        moved = sum(
            line.amount for on, lines in self._lines.items() if on <= day for line in lines if line.currency == currency
        )
        return 10**11 + moved


Part = tuple[str, int, list[Booked]]


def _camt(day: date, parts: list[Part]) -> bytes:
    statements = []
    for currency, closing, lines in parts:
        opening = closing - sum(line.amount for line in lines)
        # half of the payments are booked as one batch, as banks do with a file of orders
        payments = [line for line in lines if line.kind == "payment" and line.booking_on == day and not line.charges]
        batch = payments[: len(payments) // 2] if len(payments) > 3 else []
        entries = [_entry(currency, [line]) for line in lines if line not in batch]
        entries += [_entry(currency, batch)] if batch else []
        statements.append(
            f"<Stmt><Id>{day:%Y%m%d}{currency}</Id><CreDtTm>{day}T23:00:00+01:00</CreDtTm>"
            f"<Acct><Id><IBAN>{ACCOUNT}</IBAN></Id><Ccy>{currency}</Ccy></Acct>"
            f"{_balance('OPBD', opening, currency, day)}{_balance('CLBD', closing, currency, day)}"
            f"{''.join(entries)}</Stmt>"
        )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<Document xmlns="urn:iso:std:iso:20022:tech:xsd:camt.053.001.08"><BkToCstmrStmt>'
        f"<GrpHdr><MsgId>FAKE{day:%Y%m%d}</MsgId><CreDtTm>{day}T23:00:00+01:00</CreDtTm></GrpHdr>"
        f"{''.join(statements)}</BkToCstmrStmt></Document>"
    ).encode()


def _money(amount: int, currency: str) -> str:
    direction = "DBIT" if amount < 0 else "CRDT"
    return f'<Amt Ccy="{currency}">{major_units(abs(amount), currency)}</Amt><CdtDbtInd>{direction}</CdtDbtInd>'


def _balance(code: str, amount: int, currency: str, day: date) -> str:
    return (
        f"<Bal><Tp><CdOrPrtry><Cd>{code}</Cd></CdOrPrtry></Tp>{_money(amount, currency)}<Dt><Dt>{day}</Dt></Dt></Bal>"
    )


def _entry(currency: str, lines: list[Booked]) -> str:
    first = lines[0]
    family, sub, *_ = CODES[first.kind]
    details = "".join(_transaction(currency, line) for line in lines)
    return (
        f"<Ntry>{_money(sum(line.amount for line in lines), currency)}<Sts><Cd>BOOK</Cd></Sts>"
        f"<BookgDt><Dt>{first.booking_on}</Dt></BookgDt><ValDt><Dt>{first.booking_on}</Dt></ValDt>"
        f"<AcctSvcrRef>{first.bank_reference if len(lines) == 1 else first.bank_reference + 'B'}</AcctSvcrRef>"
        f"<BkTxCd><Domn><Cd>PMNT</Cd><Fmly><Cd>{family}</Cd><SubFmlyCd>{sub}</SubFmlyCd></Fmly></Domn></BkTxCd>"
        f"<NtryDtls>{details}</NtryDtls></Ntry>"
    )


def _transaction(currency: str, line: Booked) -> str:
    charges = ""
    if line.charges:
        amount = f'<Amt Ccy="{currency}">{major_units(line.charges, currency)}</Amt>'
        charges = f"<Chrgs><Rcrd>{amount}<CdtDbtInd>DBIT</CdtDbtInd><ChrgInclInd>true</ChrgInclInd></Rcrd></Chrgs>"
    returned = "<RtrInf><Rsn><Cd>AC04</Cd></Rsn></RtrInf>" if line.kind == "return" else ""
    return (
        f"<TxDtls><Refs><AcctSvcrRef>{line.bank_reference}</AcctSvcrRef>"
        f"<EndToEndId>{escape(line.end_to_end_id) or 'NOTPROVIDED'}</EndToEndId></Refs>{_money(line.amount, currency)}"
        f"{charges}<RmtInf><Ustrd>Commission</Ustrd></RmtInf>{returned}</TxDtls>"
    )


def _comma(amount: int, currency: str) -> str:
    text = major_units(abs(amount), currency).replace(".", ",")
    return text if "," in text else f"{text},"


def _mt940(day: date, parts: list[Part]) -> bytes:
    found: list[str] = []
    for currency, closing, lines in parts:
        opening = closing - sum(line.amount for line in lines)
        found += [f":20:FAKE{day:%y%m%d}", f":25:{ACCOUNT}", f":28C:{day:%j}/1"]
        found.append(f":60F:{'D' if opening < 0 else 'C'}{day:%y%m%d}{currency}{_comma(opening, currency)}")
        for line in lines:
            _, _, swift, gvc, word = CODES[line.kind]
            mark = "D" if line.amount < 0 else "C"
            on = f"{line.booking_on:%y%m%d}{line.booking_on:%m%d}"
            found.append(f":61:{on}{mark}{_comma(line.amount, currency)}{swift}NONREF//{line.bank_reference}")
            if line.charges:
                found.append(f"/CHGS/{currency}{_comma(line.charges, currency)}/")
            purpose = f"EREF+{line.end_to_end_id or 'NOTPROVIDED'}"
            pieces = [purpose[at : at + 27] for at in range(0, len(purpose), 27)] + ["SVWZ+Commission"]
            subfields = "".join(f"?{20 + at}{piece}" for at, piece in enumerate(pieces))
            details = f"{gvc}?00{word.upper()}{subfields}?32Ada"
            cut = [details[at : at + 65] for at in range(0, len(details), 65)]
            found += [f":86:{cut[0]}", *cut[1:]]
        found += [f":62F:{'D' if closing < 0 else 'C'}{day:%y%m%d}{currency}{_comma(closing, currency)}", "-"]
    return "\r\n".join([*found, ""]).encode()


def _csv(day: date, parts: list[Part]) -> bytes:
    rows = [CSV_HEADING]
    for currency, _, lines in parts:
        for line in lines:
            on = f"{line.booking_on:%d.%m.%Y}"
            amount = f"{'-' if line.amount < 0 else ''}{_dots(_comma(line.amount, currency).rstrip(','))}"
            charges = _dots(_comma(line.charges, currency).rstrip(",")) if line.charges else ""
            word = CODES[line.kind][4]
            rows.append(
                f"{ACCOUNT};{on};{on};{amount};{currency};{line.end_to_end_id};{line.bank_reference};{word};"
                f"Commission;Ada;{charges}"
            )
    return "\r\n".join([*rows, ""]).encode()


def _dots(number: str) -> str:
    whole, comma, part = number.partition(",")
    return f"{int(whole):,}".replace(",", ".") + comma + part
