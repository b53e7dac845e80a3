"""What a recruiter's commission is a part of, and whose."""

from __future__ import annotations

from collections.abc import Mapping

from ledger.domain.conversion_state import Commission, ConversionState
from ledger.domain.offer import Terms
from ledger.domain.plans.evidence import Pricing
from ledger.explaining.data import Recruited, RecruitersPart

Recruiters = Mapping[str, str]  # who recruited an affiliate, by the affiliate's id


def part_of(
    priced: Pricing, recruiter_id: str, state: ConversionState, terms: Terms | None, recruiters: Recruiters | None
) -> RecruitersPart | None:
    """None for whoever is no recruiter. recruiters: at the time of the sale; None where that is not known."""
    if priced.second_level_of is None:
        return None
    every = [part for one in state.commissions.values() if (part := _recruited(one, terms)) is not None]
    of = {part.of for part in every}
    own = [part for part in every if recruiters is None or recruiters.get(part.affiliate_id) == recruiter_id]
    if sum(part.base for part in own) != priced.second_level_of:
        own = []  # some of these were recruited by others: nobody is named who may be the wrong one
    return RecruitersPart(
        of=of.pop() if len(of) == 1 else "", base=priced.second_level_of, rate_bps=priced.rate_bps, recruited=own
    )


def _recruited(one: Commission, terms: Terms | None) -> Recruited | None:
    """What a recruiter would earn of a commission of the first level."""
    if terms is None or terms.plan is None or one.level != 1 or one.accrued is None or one.accrued.pricing is None:
        return None
    said = terms.plan.by_override(one.accrued.pricing.override).second_level
    if said is None or not one.accrued.amount:
        return None
    base = one.accrued.amount if said.of == "commission" else one.accrued.pricing.value
    return Recruited(affiliate_id=one.affiliate_id, of=said.of, base=base, rate_bps=said.rate_bps)
