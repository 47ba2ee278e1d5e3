"""The pictures of a page, and what they show as text."""

import re
from base64 import b64decode
from xml.etree import ElementTree

SVG = "{http://www.w3.org/2000/svg}"


def text_of(svg: str) -> str:
    """All text that a figure draws."""
    return " | ".join(element.text or "" for element in ElementTree.fromstring(svg).iter(f"{SVG}text"))


def pictures_of(html: str) -> list[str]:
    """The SVG files that stand in a page."""
    return [b64decode(content).decode() for content in re.findall(r'src="data:image/svg\+xml;base64,([^"]*)"', html)]


def with_pictures(html: str) -> str:
    """A page, and after it the text that its pictures draw."""
    return "\n".join([html, *map(text_of, pictures_of(html))])
