"""Words for missing values, and labels that differ in spelling only."""

import re
import unicodedata

# What pandas (`read_csv`'s na_values), R, SPSS, SQL, Excel and people write where there is no value; without capitals.
_MISSING = {
    "nan", "-nan", "na", "(na)", "<na>", "n/a", "n.a.", "n.a", "n/d", "n.d.", "nat", "#na", "#n/a", "#null!", "#value!",
    "#ref!", "#div/0!", "#name?", "#num!", "1.#ind", "-1.#ind", "1.#qnan", "-1.#qnan", "none", "(none)", "<none>",
    "null", "(null)", "<null>", "nil", "missing", "(missing)", "[missing]", "<missing>", "empty", "(empty)",
    "not available",
    "not applicable", "not known", "no data", "no value", "unavailable", "?", "??", "???", "-", "--", "---", ".", "..",
    "...", "_", "__", "/", "\\n", "#nv", "#wert!", "#bezug!", "nan(ind)", "-nan(ind)", "nan(snan)", "-nan(snan)",
    "''", '""',
}  # fmt: skip
# Of a label only: a site may well be called so.
_NO_LABEL = {
    "unknown", "unclear", "undetermined", "to be determined", "tbd", "t.b.d.", "tba", "pending", "to do", "todo",
}  # fmt: skip
_DASHES = re.compile("[\u2010-\u2015\u2212\ufe58\ufe63\uff0d]")
_QUOTES = str.maketrans(
    dict.fromkeys("\u2018\u2019\u201a\u201b\u02bc\u2032\u0060\u00b4", "'")
    | dict.fromkeys("\u201c\u201d\u201e\u201f\u2033", '"')
)
# Letters of Cyrillic and Greek that look like Latin ones, and those.
_LOOK_ALIKE = str.maketrans(
    "\u0410\u0412\u0415\u0405\u0406\u0408\u041a\u041c\u041d\u041e\u0420\u0421\u0422\u0423\u0425"
    "\u0430\u0435\u0455\u0456\u0458\u043e\u0440\u0441\u0443\u0445"
    "\u0391\u0392\u0395\u0396\u0397\u0399\u039a\u039c\u039d\u039f\u03a1\u03a4\u03a5\u03a7\u03bf\u03bd",
    "ABESIJKMHOPCTYXaesijopcyxABEZHIKMNOPTYXov",
)
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
    between a letter and a digit is nothing, nor is a full stop at the end. A number is its value, without needless
    zeros.
    """
    text = re.sub(r"^'(?=\d)", "", _plain(value))  # Excel's mark of a text
    if (number := _number(text)) is not None:
        return number
    text = re.sub(r"(?<=[^\W_])[_\-](?=[^\W_])", " ", text)
    text = re.sub(r"(?<![^\W_])([ivx]+) (?=[a-d](?![^\W_]))", r"\1", text)  # stage II a
    text = re.sub(r"(?<=[^\W\d_])[.,;:]+$", "", text)
    return re.sub(r"(?<=[^\W\d_]) (?=\d)|(?<=\d) (?=[^\W\d_])", "", text)


def in_latin(value: str) -> str:
    """With Latin letters for those of Cyrillic and Greek that look the same."""
    return value.translate(_LOOK_ALIKE)


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
    value = re.sub("(?<=\\d)(?=[\u00bc-\u00be\u2150-\u215e])", " ", value)  # one and a half is no eleven halves
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", value.translate(_QUOTES)).casefold())
    text = text.replace("\u2044", "/")
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


def is_one_line(text: str) -> bool:
    """Whether a text has no line break and no control character."""
    return not any(unicodedata.category(character) in ("Cc", "Zl", "Zp") for character in text)
