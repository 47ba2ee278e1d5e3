"""Whether a name in a table or of a file is a person's own, as the header of an image has it."""

import re
import unicodedata
from collections.abc import Collection, Iterable, Sequence

NOTHING = {"", "anonymous", "anonymized", "anonymised", "anon", "none", "unknown", "removed", "na", "pseudonym"}
"""Values that name nobody."""
# Shorter pieces of a name are parts of other words; as words of their own they may be somebody's.
_MIN_PIECE, _MIN_WORD = 4, 3
_UMLAUTS = str.maketrans(
    {"\u00e4": "ae", "\u00f6": "oe", "\u00fc": "ue", "\u00df": "ss", "\u00f8": "oe", "\u00e5": "aa"}
)


def letters(text: str) -> str:
    """Letters and digits only, in lower case and without accents: `Doe^Jane` and `doe_jane` are the same."""
    plain = unicodedata.normalize("NFC", text).casefold().translate(_UMLAUTS)
    return re.sub(r"[\W_]", "", unicodedata.normalize("NFKD", plain))


def pieces_of(value: str) -> set[str]:
    """The parts of a name, number or date, such as surname and given name."""
    return {letters(piece) for piece in re.split(r"[\s^,=]+", value)} - NOTHING


def is_pseudonym(value: str, own: Sequence[str]) -> bool:
    """Whether a name or number is one that the table has, or has one of four letters or more in it."""
    return any(name == value or (len(name) >= _MIN_PIECE and name in value) for name in own)


def is_persons_own(name: str, person: str) -> bool:
    """Whether a table's name of a patient has a part of the person's, as letters; name: `letters` of it.

    A pseudonym has a number: where the header's name has one, it is taken for that.
    """
    whole = letters(person)
    if not whole.isalpha():
        return False
    pieces = {piece for piece in pieces_of(person) if piece.isalpha()}
    is_named = name in pieces and (len(pieces) > 1 or len(name) >= _MIN_WORD)
    return is_named or (name == whole and len(name) >= _MIN_WORD) or _has_long_piece(name, pieces)


def names_file(pieces: Collection[str], names: Iterable[str]) -> bool:
    """Whether a file or a folder is named after a person: it has four letters of a piece, or a short one as a word.

    Of two letters, as in `li_wei_ct.dcm`, two pieces have to be there.
    """
    for name in names:
        words = {letters(word) for word in re.split(r"[\W\d_]+", name)} & {one for one in pieces if one.isalpha()}
        if _has_long_piece(letters(name), pieces) or any(len(word) >= _MIN_WORD for word in words) or len(words) > 1:
            return True
    return False


def _has_long_piece(name: str, pieces: Iterable[str]) -> bool:
    return any(len(piece) >= _MIN_PIECE and piece in name for piece in pieces)
