"""What a verification came to: a report that a person signs and files, as text and as JSON."""

from __future__ import annotations

import platform
from datetime import datetime
from decimal import Decimal

import msgspec
from iso4217 import Currency
from msgspec import Struct

from ledger.audit.findings import Finding, Findings, shown
from ledger.audit.verifying import Witnessed

FORMAT = "commission-ledger-verification/1"
VERIFIED, DIFFERENT = "VERIFIED", "DIFFERENT"
SHOWN = 20  # findings in the text


class SealedLog(Struct, frozen=True):
    """The signed checkpoint that a log was compared with. signed_by: verifier keys; cosigned_by: of witnesses."""

    origin: str
    size: int
    root: str
    signed_by: list[str]
    cosigned_by: list[str]


class Report(Struct, kw_only=True):
    """A verification. keys: those that counted, and keys_from, who gave them: 'auditor' or 'export'. warnings: what the
    result does not cover. findings: the first of findings_total; signed_off_by: '' where nobody did."""

    format: str = FORMAT
    result: str
    source: str
    program: str
    program_id: str
    exported_at: str = ""
    exported_by_version: str = ""
    code_version: str
    python: str = platform.python_version()
    started_at: datetime
    seconds: float
    signed_off_by: str = ""
    files: int = 0
    bytes: int = 0
    seals: dict[str, SealedLog] = {}
    keys: list[str] = []
    keys_from: str = ""
    witnessed: Witnessed | None = None
    compared_with: list[str] = []
    warnings: list[str] = []
    findings: list[Finding] = []
    findings_total: int = 0
    findings_by_kind: dict[str, int] = {}

    def take(self, findings: Findings) -> None:
        """Take over what was found, which decides the result."""
        self.findings = findings.in_order()
        self.findings_total = findings.total
        self.findings_by_kind = dict(sorted(findings.counts.items()))
        self.result = DIFFERENT if findings else VERIFIED


def document(report: Report) -> bytes:
    """The report as JSON, for programs."""
    return msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n"


def text(report: Report) -> str:
    """The report for people."""
    lines = [
        f"{report.result}: {report.source}",
        "",
        f"program       {report.program} ({report.program_id})",
    ]
    if report.exported_at:
        lines.append(f"exported      {report.exported_at} by version {report.exported_by_version}")
    lines += [
        f"verified      {report.started_at:%Y-%m-%dT%H:%M:%SZ} in {report.seconds:.1f} s by version"
        f" {report.code_version}, Python {report.python}",
        f"read          {report.files:,} files, {report.bytes:,} bytes",
    ]
    lines += _keys(report) + _logs(report) + _totals(report)
    lines += [f"compared with {one}" for one in report.compared_with]
    lines += [f"WARNING       {one}" for one in report.warnings]
    lines += _findings(report)
    lines += ["", f"result        {report.result}"]
    lines.append(f"signed off by {report.signed_off_by or '__________'}")
    return "".join(f"{shown(line)}\n" for line in lines)  # each is one line, whatever the export says


def _keys(report: Report) -> list[str]:
    whose = {"auditor": "given by the auditor", "export": "the export's own"}.get(report.keys_from, "")
    lines = [f"keys          {len(report.keys)}, {whose}"] if report.keys_from else []
    return lines + [f"              {key}" for key in report.keys]


def _logs(report: Report) -> list[str]:
    lines = []
    for log, facts in (report.witnessed.logs if report.witnessed else {}).items():
        lines += ["", f"{log:<13} {facts.size:,} events, root {facts.root}"]
        seal = report.seals.get(log)
        if seal is not None:
            lines.append(f"  checkpoint  {seal.origin}, size {seal.size:,}, root {seal.root}")
            lines += [f"  signed by   {key}" for key in seal.signed_by]
            lines += [f"  cosigned by {key}" for key in seal.cosigned_by]
        topics = report.witnessed.topics[log] if report.witnessed else {}
        lines += [f"  {count:>12,}  {topic}" for topic, count in topics.items()]
    return lines


def _totals(report: Report) -> list[str]:
    found = report.witnessed
    if found is None:
        return [""]
    lines = [
        "",
        f"streams       {found.streams:,}, each folded twice",
        f"journal       {found.journal_lines:,} lines on {found.accounts:,} accounts that are not empty",
    ]
    for currency, amount in found.turnover.items():
        left = major(found.sums.get(currency, 0), currency)
        lines.append(f"  {currency}         turnover {major(amount, currency)}, all accounts add up to {left}")
    lines.append(f"statements    {found.statements:,} with {found.statement_lines:,} lines, made again")
    if found.waiting:
        lines.append(f"              {found.waiting:,} of the last cut are not issued yet")
    if found.clicks_compared or found.clicks_behind:
        behind = f"; {found.clicks_behind:,} more lie behind what was exported" if found.clicks_behind else ""
        lines.append(f"clicks        {found.clicks_compared:,} that commissions quote are in the traffic log{behind}")
    return lines


def _findings(report: Report) -> list[str]:
    if not report.findings:
        return []
    first = report.findings[0]
    lines = ["", f"FIRST DIFFERENCE: {first.kind}", f"  where       {place(first)}"]
    lines += [f"  expected    {first.expected}", f"  found       {first.found}"]
    if report.findings_total > 1:
        by_kind = ", ".join(f"{count:,} {kind}" for kind, count in report.findings_by_kind.items())
        lines += ["", f"{report.findings_total:,} differences: {by_kind}"]
        lines += [f"  {one.sentence()}" for one in report.findings[1:SHOWN]]
    return lines


def place(finding: Finding) -> str:
    """Where a finding is."""
    at = f"position {finding.position:,} of {finding.log}" if finding.position else finding.log
    if finding.position and not finding.exact:
        at += ", or later"
    return ": ".join(part for part in (at, finding.subject) if part) or "the whole"


def major(amount: int, currency: str) -> str:
    """Minor units for people: 123456 GBP → 1,234.56; as they are for a currency that is not on the list."""
    try:
        places = Currency(currency).exponent or 0
    except ValueError:
        places = 0
    return f"{Decimal(amount).scaleb(-places):,.{places}f}"
