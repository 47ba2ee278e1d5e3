"""Does a text contain the patient's name from an image header?"""

import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

NOTHING = {"", "anonymous", "anonymized", "anonymised", "anon", "none", "unknown", "removed", "na", "pseudonym"}
"""Values that name nobody."""
# Shorter pieces of a name are parts of other words; as words of their own they may be somebody's.
_MIN_PIECE, _MIN_WORD = 4, 3
# So many patients at least have to be there for a word that more than half of them share to be the study's.
_MIN_SHARING = 5
_UMLAUTS = str.maketrans(
    {"\u00e4": "ae", "\u00f6": "oe", "\u00fc": "ue", "\u00df": "ss", "\u00f8": "oe", "\u00e5": "aa"}
)
# Letters that Unicode does not take apart into one without a mark and the mark.
_BARE = str.maketrans(
    {"\u00f8": "o", "\u0142": "l", "\u0111": "d", "\u0131": "i", "\u00e6": "ae", "\u0153": "oe", "\u00fe": "th"}
)


def letters(text: str) -> str:
    """Letters and digits only, in lower case and without accents: `Doe^Jane` and `doe_jane` are the same."""
    return re.sub(r"[\W_]", "", _written(text)[0])


def pieces_of(value: str) -> set[str]:
    """The parts of a name, number or date, such as surname and given name, with umlauts in both ways to write them."""
    return {letters(piece) for form in _written(value) for piece in re.split(r"[\s^,=]+", form)} - NOTHING


def is_pseudonym(value: str, own: Sequence[str]) -> bool:
    """Whether a name or number is one that the table has, or has one of four letters or more in it."""
    return any(name == value or (len(name) >= _MIN_PIECE and name in value) for name in own)


def is_persons_own(name: str, person: str, shared: Collection[str] = ()) -> bool:
    """Whether a table's name of a patient has a part of the person's; shared: as of `shared_words`.

    A pseudonym has a number: where both have the same one, it is taken for that.
    """
    if _numbers(name) & _numbers(person):
        return False
    if _numbers(name) and _numbers(person) and len(_words(person)) == 1:  # `patient_1` and `Patient^2`
        return False
    return any(_is_own(letters(one), other, shared) for one in _written(name) for other in _written(person))


def _is_own(name: str, person: str, shared: Collection[str]) -> bool:
    whole = letters(person)
    pieces = {letters(piece) for piece in re.split(r"[\s^,=\d]+", person)} - NOTHING
    pieces = not_shared({piece for piece in pieces if piece.isalpha()}, shared)
    is_named = name in pieces and (len(pieces) > 1 or len(name) >= _MIN_WORD)
    is_whole = name == whole and name.isalpha() and len(name) >= _MIN_WORD and bool(pieces)
    return is_named or is_whole or _has_long_piece(name, pieces)


def names_file(pieces: Collection[str], names: Iterable[str]) -> bool:
    """Whether a file or a folder is named after a person: it has four letters of a piece, or a short one as a word.

    Of two letters, as in `li_wei_ct.dcm`, two pieces have to be there.
    """
    for name in (form for one in names for form in _written(one)):
        words = set(_words(name)) & {one for one in pieces if one.isalpha()}
        if _has_long_piece(letters(name), pieces) or any(len(word) >= _MIN_WORD for word in words) or len(words) > 1:
            return True
    return False


def shared_words(names: Mapping[str, Iterable[str]]) -> set[str]:
    """Words that the names of most patients have, such as the study's; no person's name is in most of them.

    names: of each patient, in the table and of the files.
    """
    if len(names) < _MIN_SHARING:
        return set()
    counts = Counter(
        word for own in names.values() for word in {w for name in own for form in _written(name) for w in _words(form)}
    )
    return {word for word, count in counts.items() if len(word) >= _MIN_WORD and 2 * count > len(names)}


def not_shared(pieces: Iterable[str], shared: Collection[str]) -> set[str]:
    """Without those that are a shared word, or are four letters or more of one."""
    return {
        one for one in pieces if one not in shared and not (len(one) >= _MIN_PIECE and any(one in w for w in shared))
    }


def _written(text: str) -> tuple[str, ...]:
    """In lower case, an umlaut as two letters and as one without its dots."""
    plain = unicodedata.normalize("NFC", text).casefold()
    return tuple(dict.fromkeys(_without_marks(one.translate(_BARE)) for one in (plain.translate(_UMLAUTS), plain)))


def _without_marks(text: str) -> str:
    return "".join(one for one in unicodedata.normalize("NFKD", text) if not unicodedata.combining(one))


def _words(name: str) -> list[str]:
    return [word for word in re.split(r"[\W\d_]+", name) if word]


def _numbers(text: str) -> set[int]:
    return {int(digits[:20]) for digits in re.findall(r"\d+", text)}


def _has_long_piece(name: str, pieces: Iterable[str]) -> bool:
    return any(len(piece) >= _MIN_PIECE and piece in name for piece in pieces)
