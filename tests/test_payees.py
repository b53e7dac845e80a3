"""Payee details: what is accepted, how errors read, what a mask shows, and what a fingerprint tells."""

from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from schwifty import registry

from ledger.domain.errors import InvalidInput
from ledger.payouts.orders import METHODS, SepaPayee, payee
from ledger.payouts.payees import SEPA_COUNTRIES, check_details, fingerprint, mask

IBAN = "DE89370400440532013000"
PROGRAM = UUID("11111111-1111-5111-8111-111111111111")
KEY = b"k" * 32


def refused(method: str, fields: dict[str, str], currency: str = "EUR") -> InvalidInput:
    """The error of details that are not accepted; it must not repeat any value."""
    with pytest.raises(InvalidInput) as caught:
        check_details(method, fields, currency)
    said = str(caught.value) + repr(caught.value.details)
    for value in fields.values():
        assert len(value) < 4 or value.strip() not in said
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None  # nor does a traceback of it
    return caught.value


def test_sepa_details_are_normalised() -> None:
    """Spaces, dashes and small letters of a pasted IBAN and BIC do not matter; empty fields are left out."""
    given_ = {"name": "  Ada   Müller ", "iban": "de89 3704-0044 0532 0130 00", "bic": "cobadeff xxx"}
    assert check_details("sepa", given_, "EUR") == {"name": "Ada Müller", "iban": IBAN, "bic": "COBADEFFXXX"}
    assert check_details("sepa", {"name": "Ada", "iban": IBAN, "bic": " "}, "EUR") == {"name": "Ada", "iban": IBAN}


@pytest.mark.parametrize(
    ("change", "field", "says"),
    [
        ({"iban": "DE89370400440532013001"}, "details.iban", "check digits"),
        ({"iban": "DE8937040044053201300"}, "details.iban", "check digits"),
        ({"iban": "XX89370400440532013000"}, "details.iban", "check digits"),
        ({"iban": "DE89３70400440532013000"}, "details.iban", "check digits"),
        ({"iban": ""}, "details.iban", "check digits"),
        ({"iban": "BR1500000000000010932840814P2"}, "details.iban", "SEPA zone"),
        ({"iban": "AE070331234567890123456"}, "details.iban", "SEPA zone"),
        ({"bic": "COBADEF"}, "details.bic", "8 or 11"),
        ({"bic": "COBAXXFF"}, "details.bic", "8 or 11"),
        ({"bic": "BNPAFRPP"}, "details.bic", "same country"),
        ({"name": ""}, "details.name", "account holder"),
        ({"name": "Ada\x07Lovelace"}, "details.name", "printable"),
        ({"name": "x" * 141}, "details.name", "1-140"),
        ({"name": "山田太郎"}, "details.name", "Latin alphabet"),
        ({"phone": "+49 170 1234567"}, "details", "name, iban, bic"),
    ],
)
def test_wrong_sepa_details_are_refused_by_name(change: dict[str, str], field: str, says: str) -> None:
    """The error names the field and what would be right, and never shows the value."""
    error = refused("sepa", {"name": "Ada", "iban": IBAN, "bic": "COBADEFFXXX"} | change)
    assert error.field == field
    assert says in error.message


def test_sepa_pays_euro_only() -> None:
    """Another currency on a SEPA account is refused, and so is one that does not exist."""
    details = {"name": "Ada", "iban": IBAN}
    assert refused("sepa", details, "USD").field == "currency"
    assert refused("sepa", details, "EUX").field == "currency"
    assert refused("cheque", details).field == "method"


@pytest.mark.parametrize(
    ("iban", "bic"),
    [
        ("FR1420041010050500013M02606", "SOGEGPGX"),  # Guadeloupe: French IBAN, BIC of its own
        ("GB29NWBK60161331926819", "NWBKGGGG"),  # Guernsey
        ("SM86U0322509800000000270100", "MAOISMSM"),
        ("GI75NWBK000000007099453", "NWBKGIGI"),
        ("RS35260005601001611379", "DBDBRSBG"),
    ],
)
def test_the_whole_sepa_zone_is_accepted(iban: str, bic: str) -> None:
    """Territories with BICs of their own, and countries that the library does not count, belong to SEPA too."""
    assert check_details("sepa", {"name": "Ada", "iban": iban, "bic": bic}, "EUR")["bic"] == bic


def test_the_list_of_sepa_countries_has_all_that_the_library_knows() -> None:
    """Ours is the library's list plus the seven newer ones, Gibraltar among them."""
    known = {c for c in registry.get_countries() if registry.get_iban_spec(c).in_sepa_zone}
    assert known <= SEPA_COUNTRIES
    assert len(SEPA_COUNTRIES) == 42


def test_paypal_takes_an_email_of_plain_letters() -> None:
    """The domain is lowered, the local part kept: it is PayPal's to read."""
    assert check_details("paypal", {"email": " Ada.L+pay@Example.COM "}, "USD") == {"email": "Ada.L+pay@example.com"}
    assert refused("paypal", {"email": "ada@example.com"}, "RSD").field == "currency"


@pytest.mark.parametrize(
    "email",
    [
        "", "ada", "@example.com", "ada@", "ada@example", "ada@@example.com", "a..b@example.com", "ada@-x.com",
        "ada@example.com\n", "ada@example.com,1,USD", "ada;x@example.com", '"ada"@example.com', "ada@exämple.com",
        "+ada@example.com", "=ada@example.com", "-ada@example.com", "@ada@example.com", "＝ada@example.com",
        "'=ada@example.com", "\tada@example.com,", "a" * 120 + "@example.com",
    ],
)  # fmt: skip
def test_an_email_that_is_none_or_would_be_a_formula_is_refused(email: str) -> None:
    """An address is never altered, so one that a spreadsheet would run is not taken in the first place."""
    if email.strip() == "ada@example.com":
        assert check_details("paypal", {"email": email}, "EUR")["email"] == "ada@example.com"
    else:
        assert refused("paypal", {"email": email}).field == "details.email"


def test_wise_takes_an_iban_an_australian_account_or_an_email() -> None:
    """Each is one of Wise's templates; nothing at all, or two at once, is refused."""
    person = {"name": "Ada Byron", "receiver_type": "PERSON"}
    assert check_details("wise", {"name": "Ada Byron", "iban": IBAN.lower()}, "EUR") == person | {"iban": IBAN}
    assert check_details("wise", {"name": "Ada Byron", "email": "ada@x.io"}, "USD") == person | {"email": "ada@x.io"}
    account = {"bsb_code": "062000", "account_number": "1234 5678"}
    assert check_details("wise", {"name": "Ada Byron", **account}, "AUD") == person | {
        "bsb_code": "062-000",
        "account_number": "12345678",
    }
    assert refused("wise", {"name": "Ada"}, "USD").field == "details"
    assert refused("wise", {"name": "Ada", **account}, "EUR").field == "details.bsb_code"
    assert refused("wise", {"name": "Ada", **account, "iban": IBAN}, "AUD").field == "details.iban"
    assert refused("wise", {"name": "Ada", **account, "bsb_code": "06200"}, "AUD").field == "details.bsb_code"
    assert refused("wise", {"name": "Ada", "bsb_code": "062000"}, "AUD").field == "details.account_number"
    assert refused("wise", {"name": "Ada", "email": "ada@x.io", "receiver_type": "CAT"}).field == (
        "details.receiver_type"
    )


def test_manual_takes_lines_that_a_person_reads() -> None:
    """1-500 printable characters; lines are kept."""
    assert check_details("manual", {"instructions": " cash \n at the desk "}, "EUR") == {
        "instructions": "cash\nat the desk"
    }
    assert refused("manual", {"instructions": ""}).field == "details.instructions"
    assert refused("manual", {"instructions": "x" * 501}).field == "details.instructions"
    assert refused("manual", {"instructions": "bell \x07 rings"}).field == "details.instructions"


@given(st.sampled_from(METHODS), st.dictionaries(st.sampled_from(["name", "iban", "bic", "email"]), st.text()))
def test_any_text_at_all_is_accepted_or_refused_and_nothing_else(method: str, fields: dict[str, str]) -> None:
    """No input makes anything but details or an InvalidInput; what is accepted is accepted again unchanged."""
    try:
        found = check_details(method, fields, "EUR")
    except InvalidInput:
        return
    assert check_details(method, found, "EUR") == found
    assert payee(method, found)


def test_details_become_a_payee() -> None:
    """The accepted details are exactly what a payment order carries; incomplete ones are refused."""
    assert payee("sepa", {"name": "Ada", "iban": IBAN}) == SepaPayee(name="Ada", iban=IBAN)
    with pytest.raises(InvalidInput, match="not complete"):
        payee("sepa", {"name": "Ada"})
    with pytest.raises(InvalidInput, match="must be one of"):
        payee("cheque", {})


def test_masks_show_enough_to_recognise_and_too_little_to_use() -> None:
    """IBAN: country, check digits and the last four; e-mail: initial and domain; a name: its initial."""
    assert mask("sepa", {"name": "Ada Byron", "iban": IBAN, "bic": "COBADEFF"}) == {
        "name": "A•••",
        "iban": "DE89 •••• 3000",
        "bic": "COBADEFF",
    }
    assert mask("paypal", {"email": "ada@example.com"}) == {"email": "a•••@example.com"}
    assert mask("paypal", {"email": "a@example.com"}) == {"email": "•••@example.com"}
    account = {"bsb_code": "062-000", "account_number": "12345678", "receiver_type": "PERSON"}
    assert mask("wise", account) == {"bsb_code": "••••", "account_number": "•••• 78", "receiver_type": "PERSON"}
    assert mask("manual", {"instructions": "cash to Ada, 12 High Street"}) == {"instructions": "••••"}
    assert mask("sepa", {"iban": "DE89", "something_new": "secret"}) == {"iban": "••••", "something_new": "••••"}


def test_fingerprints_are_equal_for_equal_details_only() -> None:
    """Order and empty fields do not matter; a changed digit, method, program or key makes another fingerprint."""
    details = check_details("sepa", {"name": "Ada", "iban": "DE89 3704 0044 0532 0130 00"}, "EUR")
    one = fingerprint(PROGRAM, "sepa", details, KEY)
    assert len(one) == 64
    assert one == fingerprint(PROGRAM, "sepa", {"bic": "", "iban": IBAN, "name": "Ada"}, KEY)
    others = {
        fingerprint(PROGRAM, "sepa", details | {"iban": "DE02120300000000202051"}, KEY),
        fingerprint(PROGRAM, "wise", details, KEY),
        fingerprint(UUID(int=0), "sepa", details, KEY),
        fingerprint(PROGRAM, "sepa", details, b"j" * 32),
        fingerprint(PROGRAM, "sepa", {"name": "Ad", "iban": "a" + IBAN}, KEY),
    }
    assert len(others | {one}) == 6
    with pytest.raises(ValueError, match="16 bytes"):
        fingerprint(PROGRAM, "sepa", details, b"")
