"""Text that goes into payout files: in the SEPA character set, or safe to open in a spreadsheet."""

from __future__ import annotations

import re
import unicodedata
from hashlib import sha256

# EPC217-08, "SEPA requirements for an extended character set", section 6: the basic Latin set.
_SEPA = re.compile(r"[A-Za-z0-9/?:().,'+ -]*")
_SEPA_CHARACTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789/-?:().,'+ ")

# What NFKD does not take apart. Signs, Greek and Bulgarian as in EPC217-08's conversion tables; the letters of other
# Cyrillic alphabets beside them; ß as 'ss', the alternative that the German banks give (DFÜ-Abkommen, Anlage 3).
_SIGNS = {
    "&": "+", ";": ",", "[": "(", "{": "(", "]": ")", "}": ")", "\\": "/", "|": "/", "_": "-", "~": "-", "`": "'",
    "€": "E", "’": "'", "‘": "'", "ʼ": "'", "´": "'", "–": "-", "—": "-", "‐": "-", "‑": "-", "−": "-",
    "\u2044": "/",
}  # fmt: skip
_LETTERS = {
    "ß": "ss", "æ": "ae", "œ": "oe", "ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "ħ": "h", "ı": "i", "ŋ": "ng",
    "α": "a", "β": "v", "γ": "g", "δ": "d", "ε": "e", "ζ": "z", "η": "i", "θ": "th", "ι": "i", "κ": "k", "λ": "l",
    "μ": "m", "ν": "n", "ξ": "x", "ο": "o", "π": "p", "ρ": "r", "σ": "s", "ς": "s", "τ": "t", "υ": "y", "φ": "f",
    "χ": "ch", "ψ": "ps", "ω": "o",
    "а": "a", "б": "b", "в": "v", "г": "g", "д": "d", "е": "e", "ж": "zh", "з": "z", "и": "i", "й": "y", "к": "k",
    "л": "l", "м": "m", "н": "n", "о": "o", "п": "p", "р": "r", "с": "s", "т": "t", "у": "u", "ф": "f", "х": "h",
    "ц": "ts", "ч": "ch", "ш": "sh", "щ": "sht", "ъ": "a", "ь": "y", "ю": "yu", "я": "ya",
    "ё": "e", "ы": "y", "э": "e", "і": "i", "ї": "i", "є": "ye", "ґ": "g", "ў": "u", "ђ": "dj", "ј": "j", "љ": "lj",
    "њ": "nj", "ћ": "c", "џ": "dz", "ѓ": "g", "ќ": "k", "ѕ": "dz",
}  # fmt: skip

# OWASP, "CSV Injection": = + - @, tab, carriage return and line feed start a formula, their full-width forms too.
_FORMULA = frozenset("=+-@\u2212")
_QUOTES = frozenset("'\"`´‘’‚“”„«»")


def latin(text: str, limit: int) -> str:
    """text in the SEPA character set, at most limit characters; what was cut ends in '...'.

    Marks are dropped (é → e), Greek and Cyrillic are spelled out, what has no Latin form becomes a full stop.
    """
    if not _SEPA.fullmatch(text):
        text = _spelled(unicodedata.normalize("NFC", text))
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 3].rstrip() + "..."


def _spelled(text: str) -> str:
    out: list[str] = []
    for i, character in enumerate(text):
        if character in _SEPA_CHARACTERS:
            out.append(character)
        elif character in _SIGNS:
            out.append(_SIGNS[character])
        elif (spelled := _LETTERS.get(character.lower())) is not None:
            out.append(spelled if character.islower() else _capital(spelled, text[i + 1 : i + 2]))
        else:
            out.append(_taken_apart(character))
    return "".join(out)


def _capital(spelled: str, following: str) -> str:
    """Жанна → Zhanna, ЖАННА → ZHANNA."""
    return spelled.capitalize() if following.islower() else spelled.upper()


def _taken_apart(character: str) -> str:
    """'é' → 'e', 'ﬁ' → 'fi', a zero-width joiner → '', a control character → ' ', '田' → '.'."""
    category = unicodedata.category(character)
    if category in ("Mn", "Me", "Cf"):
        return ""
    if category[0] in "CZ":
        return " "
    parts = [c for c in unicodedata.normalize("NFKD", character) if unicodedata.category(c) != "Mn"]
    if not parts or parts == [character]:
        return "."
    return "".join(c if c in _SEPA_CHARACTERS else _SIGNS.get(c) or _LETTERS.get(c.lower(), ".") for c in parts)


def has_latin(text: str) -> bool:
    """Whether anything but punctuation is left of it in the SEPA character set."""
    return any(c.isalnum() for c in latin(text, 140))


def identifier(text: str, limit: int) -> str:
    """An id of letters, digits, '.' and '-' from text: itself if it is one and short enough, else its start and a hash.

    Two texts never have the same one (but for a collision of 64 bits). limit: at least 18.
    """
    plain = re.sub(r"[^A-Za-z0-9.-]+", "-", text)
    if plain == text and len(text) <= limit and text[0].isalnum():
        return text
    start = plain.lstrip(".-")[: limit - 17].rstrip(".-")
    return f"{start}-{sha256(text.encode()).hexdigest()[:16]}".lstrip("-")


def cell(text: str) -> str:
    """Free text for people, as a CSV cell that no spreadsheet runs (OWASP, "CSV Injection").

    One line; ';' and '"' become ',' and "'", so that a spreadsheet that splits at semicolons finds no second cell; an
    apostrophe is put before it if it begins like a formula, be it behind quotes, spaces or invisible characters.
    """
    flat = "".join(" " if unicodedata.category(c) in ("Cc", "Zl", "Zp", "Cs") else c for c in text)
    flat = " ".join(flat.split()).replace(";", ",").replace('"', "'")
    return "'" + flat if starts_formula(flat) else flat


def starts_formula(text: str) -> bool:
    """Whether a spreadsheet could take text for a formula."""
    if text[:1] in ("\t", "\r", "\n", "\0"):
        return True
    for character in text:
        if character in _QUOTES or character.isspace() or unicodedata.category(character) in ("Cf", "Cc", "Mn"):
            continue
        return unicodedata.normalize("NFKC", character)[0] in _FORMULA
    return False
