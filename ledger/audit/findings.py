"""What an audit finds: one difference each, with the first place where it shows."""

from __future__ import annotations

from collections import Counter

from msgspec import Struct

MOST_SHOWN = 2_000  # characters of a line for people
KEPT = 100  # findings told one by one; the rest is counted


def shown(text: str) -> str:
    """A text from an export as one line for people: what could steer a terminal is escaped, what is too long is cut."""
    if len(text) > MOST_SHOWN:
        text = f"{text[:MOST_SHOWN]}… ({len(text):,} characters)"
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


class Finding(Struct, frozen=True, kw_only=True):
    """A difference. kind: one of KINDS; log: books or traffic, '' where it is about neither; position: the first one of
    the log that differs, 0 where it is about none (a file, a balance); expected, found: what should stand there and
    what does, for people; subject: which file, account, statement or stream, '' where position says it all;
    exact False: it is this position or a later one."""

    kind: str
    log: str
    position: int
    expected: str
    found: str
    subject: str = ""
    exact: bool = True

    def sentence(self) -> str:
        """One line for people."""
        place = f"{self.log} position {self.position:,}" if self.position else self.log
        if self.position and not self.exact:
            place += " or later"
        about = ", ".join(part for part in (place, self.subject) if part)
        return shown(f"{self.kind}: {about or 'the whole'}: expected {self.expected}, found {self.found}")


# kind → what it means. Programs may rely on these names.
KINDS: dict[str, str] = {
    # the directory
    "manifest_unreadable": "the export's manifest cannot be read, or says of itself what cannot be",
    "file_missing": "a file of the manifest is not there",
    "file_differs": "a file has other bytes than the manifest says",
    "file_unlisted": "a file is there that the manifest does not name",
    # the log
    "line_unreadable": "a line is no export line of a known version",
    "line_misplaced": "a line is of another program or log, or in another place than it says",
    "position_gap": "the positions are not 1, 2, 3 … up to the size",
    "time_falls": "recorded_at is earlier than on the line before",
    "stream_version_gap": "a stream's versions are not 1, 2, 3 …",
    "stream_id_differs": "a stream's id is not the one that its record's name leads to",
    "leaf_differs": "a line's leaf hash is not the one that was sealed",
    "root_differs": "the lines do not lead to the root that was signed",
    "size_differs": "the log has another number of events than was stated or sealed",
    "checkpoint_invalid": "a checkpoint cannot be read, is of another log, or nobody known signed it",
    "not_cosigned": "a witness whose key was given did not sign the checkpoint",
    "consistency_invalid": "the proof that the log is the beginning of the sealed one does not hold",
    # what the events say
    "topic_unknown": "an event of a kind that this version does not know",
    "event_unreadable": "an event's state is not what its topic demands",
    "fold_refused": "an event cannot follow what its stream said before",
    "fold_differs": "the ledger's own folds and the naive books disagree",
    "price_differs": "a commission or reversal is not what its rate and sale lead to",
    "plan_differs": "a plan's hash is not the one of its document",
    "counter_differs": "a counter that a commission quotes is not the sum of what was counted before it",
    "clicks_differ": "clicks that were paid are not those of the traffic log, or not what was said to be counted",
    "life_differs": "a record took a step that its life does not have",
    "invoice_differs": "invoice numbers have a gap, or stand on the wrong payouts",
    "same_person": "one person proposed and decided",
    "evidence_differs": "the click that a commission quotes is not the one in the traffic log",
    "not_balanced": "a currency does not add up to zero",
    "balance_differs": "an account holds another amount than its events add up to",
    "total_differs": "a control total is another",
    "statement_differs": "a statement is not what its lines lead to",
    "statement_missing": "a statement that must be there is not",
    "statement_extra": "a statement that nothing leads to",
    "trees_differ": "the root over the affiliates' own trees is another",
    # against another copy
    "copies_differ": "two copies of one log differ",
    "not_compared": "what was kept from before cannot be compared: the export ends before it",
}  # fmt: skip


class Findings:
    """Collects findings: the first of them one by one, all of them counted."""

    def __init__(self, kept: int = KEPT) -> None:
        self._most = kept
        self.kept: list[Finding] = []
        self.counts: Counter[str] = Counter()

    def add(self, finding: Finding) -> None:
        """One more."""
        assert finding.kind in KINDS, finding.kind
        self.counts[finding.kind] += 1
        if len(self.kept) < self._most or self.counts[finding.kind] == 1:
            self.kept.append(finding)

    def report(
        self, kind: str, log: str, position: int, expected: object, found: object, subject: str = "", exact: bool = True
    ) -> None:
        """One more, from its parts."""
        self.add(
            Finding(
                kind=kind,
                log=log,
                position=position,
                expected=str(expected),
                found=str(found),
                subject=subject,
                exact=exact,
            )
        )

    def merge(self, others: Findings) -> None:
        """Take over what another part found."""
        for finding in others.kept:
            self.add(finding)
        for kind, count in others.counts.items():
            self.counts[kind] += count - sum(1 for one in others.kept if one.kind == kind)

    @property
    def total(self) -> int:
        """How many there were."""
        return self.counts.total()

    def __bool__(self) -> bool:
        return bool(self.counts)

    def in_order(self) -> list[Finding]:
        """Those with an exact position first, by position, then the others with one, then those without. A leaf that
        differs from the signed tree's goes before all: it names a line by its place, others by what lines say of
        themselves."""
        return sorted(
            self.kept,
            key=lambda one: (
                one.position == 0,
                one.kind != "leaf_differs" or not one.exact,
                not one.exact,
                one.position,
            ),
        )

    def first(self) -> Finding | None:
        """The one to be told first."""
        return next(iter(self.in_order()), None)
