"""From records to HTML: templates, and how names and figures stand in a page.

The name of a case is never broken: two cases of one patient may differ in their last letters alone, and who looks for
one searches the page for it. A line ends before or after it.
"""

import base64
import re
from collections.abc import Iterable
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape
from matplotlib.figure import Figure

from vwmm.analysis.figures.style import plain, to_svg

MAX_WHOLE = 60
"""Characters; a longer name does not fit on a printed line beside its values, and may be broken."""


def templates() -> Environment:
    """The pages of this folder, which are filled in."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["readable"] = lambda text: plain(str(text), limit=80, escape_math=False)
    environment.filters["readable_text"] = lambda text: plain(str(text), limit=400, escape_math=False)
    environment.filters |= {"whole": whole, "whole_path": whole_path, "key": breakable_key}
    return environment


def image_tag(figure: Figure) -> Markup:
    """A figure as an `<img>` that holds its file: nothing in it reaches the page. Its label is the alternative text."""
    content = base64.b64encode(to_svg(figure).encode()).decode()
    return Markup('<img alt="{}" src="data:image/svg+xml;base64,{}">').format(figure.get_label(), content)


def whole(name: str) -> Markup:
    """A name that is never broken, unless it has more than `MAX_WHOLE` characters."""
    kind = "name" if len(name) <= MAX_WHOLE else "name long"
    return Markup('<span class="{}">{}</span>').format(kind, name)


def whole_path(path: str) -> Markup:
    """A path that is broken after a slash only: the names in it stay whole."""
    return Markup("/<wbr>").join(whole(part) if part else Markup() for part in path.split("/"))


def whole_words(text: str, names: Iterable[str]) -> Markup:
    """A sentence that is broken between words only, and not within `names`, which may have spaces."""
    spaced = sorted({name for name in names if " " in name}, key=lambda name: (-len(name), name))
    pattern = re.compile("|".join([*map(re.escape, spaced), r"\S+"]))
    found, end = Markup(), 0
    for match in pattern.finditer(text):
        word = match[0]
        found += escape(text[end : match.start()])
        found += whole(word) if re.search(r"[\s\-/]", word) else escape(word)
        end = match.end()
    return found + escape(text[end:])


def breakable_key(key: str) -> Markup:
    """A dotted key that may be broken after a dot or an underscore."""
    return Markup("<wbr>").join(re.split(r"(?<=[._])", key))
