"""The year as a small SVG chart: what was earned (solid) and paid (outlined) in each month. Integers only, so the same
data give the same bytes everywhere; readable without colour."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from ledger.statements import numbers
from ledger.statements.presentation import YearMonth
from ledger.statements.words import word

WIDTH, HEIGHT = 480, 236
_TOP, _BOTTOM, _RIGHT = 36, 38, 4
_INK, _GRID, _GREY = "#1d3557", "#d5d9e0", "#4a5160"


def _step(spread: int) -> int:
    """A round distance (1, 2 or 5 times a power of ten, minor units) that cuts the spread into at most 5 parts."""
    step = 1
    while True:
        for factor in (1, 2, 5):
            if step * factor * 5 >= spread:
                return step * factor
        step *= 10


def _floor(value: int, step: int) -> int:
    return value // step * step


def _px(tenths: int) -> str:
    """Tenths of a pixel as text."""
    sign, tenths = ("-", -tenths) if tenths < 0 else ("", tenths)
    return f"{sign}{tenths // 10}.{tenths % 10}" if tenths % 10 else f"{sign}{tenths // 10}"


class _Scale:
    """Minor units to tenths of a pixel from the top."""

    def __init__(self, months: Sequence[YearMonth]) -> None:
        values = [0, *(m.earned for m in months), *(m.paid for m in months)]
        self.step = _step(max(values) - min(values) or 1)
        self.low = _floor(min(values), self.step)
        self.high = -_floor(-max(values), self.step) or (self.step if not self.low else 0)

    def y(self, amount: int) -> int:
        height = (HEIGHT - _TOP - _BOTTOM) * 10
        return _TOP * 10 + (self.high - amount) * height // (self.high - self.low)

    def ticks(self) -> range:
        return range(self.low, self.high + 1, self.step)


def _tick_text(amount: int, currency: str, step: int, language: str) -> str:
    text = numbers.number(amount, currency, language)
    places = numbers.decimals(currency)
    whole_units = step % 10**places == 0
    return text[: -places - 1] if places and whole_units else text


def _bar(x: int, width: int, top: int, zero: int, solid: bool) -> str:
    y, height = min(top, zero), abs(top - zero)
    look = f'fill="{_INK}"' if solid else f'fill="#fff" stroke="{_INK}" stroke-width="1.4"'
    return f'<rect x="{_px(x)}" y="{_px(y)}" width="{_px(width)}" height="{_px(height)}" {look}/>' if height else ""


def _legend(left: int, language: str) -> list[str]:
    parts = []
    x = left
    for key, look in (("earned", f'fill="{_INK}"'), ("paid", f'fill="#fff" stroke="{_INK}" stroke-width="1.4"')):
        text = word(key, language)
        parts.append(f'<rect x="{x}" y="9" width="12" height="12" {look}/>')
        parts.append(f'<text x="{x + 18}" y="19" fill="{_GREY}">{escape(text)}</text>')
        x += 18 + 8 * len(text) + 24
    return parts


def svg(months: Sequence[YearMonth], language: str) -> str:
    """The chart of one currency's months, in their order. Raises ValueError when there are none."""
    if not months:
        raise ValueError("a chart needs at least one month")
    currency = months[0].currency
    scale = _Scale(months)
    labels = {tick: _tick_text(tick, currency, scale.step, language) for tick in scale.ticks()}
    left = 10 + 7 * max(len(text) for text in labels.values())
    alt = escape(word("chart_of", language, currency=currency), quote=True)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{alt}" '
        f'font-family="Libertinus Serif, system-ui, sans-serif" font-size="12">',
        *_legend(left, language),
    ]
    for tick, text in labels.items():
        y = scale.y(tick)
        colour = _GREY if tick == 0 else _GRID
        parts.append(f'<path d="M{left} {_px(y)}H{WIDTH - _RIGHT}" stroke="{colour}" stroke-width="1"/>')
        parts.append(f'<text x="{left - 8}" y="{_px(y + 40)}" text-anchor="end" fill="{_GREY}">{escape(text)}</text>')
    slot = (WIDTH - _RIGHT - left) * 10 // len(months)
    shown_year = ""
    for index, month in enumerate(months):
        x = left * 10 + slot * index
        bar = slot * 36 // 100
        parts.append(_bar(x + slot * 12 // 100, bar, scale.y(month.earned), scale.y(0), solid=True))
        parts.append(_bar(x + slot * 52 // 100, bar, scale.y(month.paid), scale.y(0), solid=False))
        name, year = numbers.short_month(month.period, language)
        middle = _px(x + slot // 2)
        place = f'x="{middle}" text-anchor="middle" fill="{_GREY}"'
        parts.append(f'<text {place} y="{HEIGHT - 22}" font-size="11">{escape(name)}</text>')
        if year != shown_year:
            parts.append(f'<text {place} y="{HEIGHT - 5}" font-size="11">{escape(year)}</text>')
            shown_year = year
    return "".join(parts) + "</svg>"
