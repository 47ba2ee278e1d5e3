"""Words that stand for a missing value, and values that are one and the same in several spellings."""

import re
import unicodedata

# What pandas (`read_csv`'s na_values), R, SPSS, SQL, Excel and people write where there is no value; without capitals.
_MISSING = {
    "nan", "-nan", "na", "(na)", "<na>", "n/a", "n.a.", "n.a", "n/d", "n.d.", "nat", "#na", "#n/a", "#null!", "#value!",
    "#ref!", "#div/0!", "#name?", "#num!", "1.#ind", "-1.#ind", "1.#qnan", "-1.#qnan", "none", "(none)", "<none>",
    "null", "(null)", "<null>", "nil", "missing", "(missing)", "[missing]", "<missing>", "empty", "(empty)",
    "not available",
    "not applicable", "not known", "no data", "no value", "unavailable", "?", "??", "???", "-", "--", "---", ".", "..",
    "...", "_", "__", "/",
}  # fmt: skip
# Of a label only: a site may well be called so.
_NO_LABEL = {
    "unknown", "unclear", "undetermined", "to be determined", "tbd", "t.b.d.", "tba", "pending", "to do", "todo",
}  # fmt: skip
_DASHES = re.compile("[\u2010-\u2015\u2212\ufe58\ufe63\uff0d]")
# No ink: zero-width blanks and marks, soft hyphens, byte order marks.
_INVISIBLE = "\u00ad\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff"
# Those that programs leave at the ends of a cell; marks of direction may be part of a file's name.
_AT_ENDS = "".join(filter(str.isspace, map(chr, range(0x3001)))) + "\u200b\u2060\ufeff"
_NUMBER = re.compile(r"([+-]?)(\d+)(?:\.(\d*)|,(\d{1,2}))?", re.ASCII)
# As programs write it, with a point or a sign: 12e3 is a name or a hexadecimal number.
_POWER = re.compile(r"([+-]?)(\d+)(?:[.,](\d+)e(?=[+-]?\d)|e(?=[+-]))([+-]?\d{1,2})", re.ASCII)


def without_blanks(cell: str) -> str:
    """A cell without what is at its ends and cannot be seen: blanks of any kind and characters of no width."""
    return cell.strip(_AT_ENDS)


def is_missing(cell: str, *, is_label: bool = False) -> bool:
    """Whether a cell has a word for a missing value, such as nan, NA, None, ? or -; not whether it is empty."""
    text = _plain(cell)
    return text in _MISSING or (is_label and text in _NO_LABEL)


def spelling_key(value: str) -> str:
    """Equal for values that a person reads as one: 7, 007 and 7.0; TRUE and True; Unicode's forms; kinds of blanks.

    Compatible characters are one (Unicode TR15, NFKC). A hyphen or underscore between letters or digits is a blank; one
    between a letter and a digit is nothing. A number is its value, without needless zeros.
    """
    text = re.sub(r"^'(?=\d)", "", _plain(value))  # Excel's mark of a text
    if (number := _number(text)) is not None:
        return number
    text = re.sub(r"(?<=[^\W_])[_\-](?=[^\W_])", " ", text)
    return re.sub(r"(?<=[^\W\d_]) (?=\d)|(?<=\d) (?=[^\W\d_])", "", text)


def name_key(name: str) -> str:
    """As `spelling_key`, for names of patients and sites: 1.1 and 1.10 are two of them, 7 and 7.0 one, P7 and P007 too.

    Those of an equal key may still be two: see `names_alike`.
    """
    key = _strict_name_key(name)
    return key if _NUMBER.fullmatch(key) else re.sub(r"(?<!\d)0+(?=\d)", "", key)


def names_alike(one: str, other: str) -> bool:
    """Whether a person would take two names for one.

    Where leading zeros tell names of one length apart, as in 00a1 and 0a01, they are two.
    """
    first, second = _strict_name_key(one), _strict_name_key(other)
    return first == second or (len(first) != len(second) and name_key(one) == name_key(other))


def _strict_name_key(name: str) -> str:
    key = spelling_key(name)
    return _plain(name) if "." in key and _number(key) is not None else key


def _plain(value: str) -> str:
    """Composed alike, without capitals and what cannot be seen, each run of blanks as one and each dash as a hyphen."""
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", value).casefold())
    text = _DASHES.sub("-", re.sub(f"[{_INVISIBLE}]", "", text))
    return " ".join(text.split())


def _number(text: str) -> str | None:
    """A number without needless zeros and signs, however many digits it has; None where it is none."""
    if power := _POWER.fullmatch(text):
        sign, whole, part, exponent = power[1], power[2], power[3] or "", int(power[4])
        digits, point = whole + part, len(whole) + exponent
        digits = "0" * max(0, 1 - point) + digits + "0" * max(0, point - len(digits))
        point = max(1, point)
    elif plain := _NUMBER.fullmatch(text):
        sign, whole, part = plain[1], plain[2], plain[3] or plain[4] or ""
        digits, point = whole + part, len(whole)
    else:
        return None
    whole, part = digits[:point].lstrip("0") or "0", digits[point:].rstrip("0")
    value = f"{whole}.{part}" if part else whole
    return f"-{value}" if sign == "-" and value != "0" else value
