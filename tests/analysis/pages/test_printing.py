"""Every page on paper: nothing of it is cut, folded away or broken within a name."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.analysis.printed import CHROMIUM, KEYS, NAMES, all_pages, print_page, squeeze, text_of_pdf, texts_of

PAGES = ("report", "evaluation", "cross-validation", "check", "sweep")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium to print the pages")


@dataclass(frozen=True)
class Printed:
    """A page and what of it stands on paper."""

    html: str
    text: str


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory, make_run: Callable[..., Path]) -> dict[str, Printed]:
    """All pages, each printed once, by a reader who has closed what can be closed."""
    found = {}
    for name, open_html in all_pages(make_run, tmp_path_factory.mktemp("runs")):
        html = open_html.replace("<details open>", "<details>")
        found[name] = Printed(html, text_of_pdf(print_page(html, tmp_path_factory.mktemp(name))))
    return found


@pytest.mark.parametrize("name", PAGES)
def test_each_row_warning_and_paragraph_of_the_page_is_on_paper(name: str, printed: dict[str, Printed]) -> None:
    page = printed[name]
    on_paper = squeeze(page.text)

    texts = texts_of(page.html)

    assert len(texts) > 50
    assert [text for text in texts if text not in on_paper] == []


def test_all_warnings_and_each_key_of_a_sweep_are_among_them(printed: dict[str, Printed]) -> None:
    on_paper = squeeze(printed["check"].text)
    assert on_paper.count("almostthesameasctofcase") == 24
    assert on_paper.count("arewrittenalmostalike") == 12
    assert set(KEYS) <= {key for key in KEYS if key in squeeze(printed["sweep"].text)}


@pytest.mark.parametrize("name", PAGES)
def test_date_version_commit_and_command_stand_openly_at_the_head(name: str, printed: dict[str, Printed]) -> None:
    page = printed[name]

    head = page.html.split("</header>")[0]

    assert "<details" not in head
    for words in ("2026-03-01 10:00 UTC", "vwmm 0.1.0", "a" * 40, "vwmm train --config my.yaml "):
        assert words in head
        assert squeeze(words) in squeeze(page.text)


def test_configuration_and_environment_are_open_on_paper_even_if_they_were_closed(printed: dict[str, Printed]) -> None:
    for name in ("report", "evaluation", "cross-validation"):
        assert "<details>" in printed[name].html
        assert "micro_batch_size: 2" in printed[name].text
    assert "NVIDIA H200, NVIDIA H200" in " ".join(printed["report"].text.split())


def test_no_name_of_a_case_is_broken_on_paper(printed: dict[str, Printed]) -> None:
    text = printed["check"].text

    for case in NAMES:
        assert text.count(case) == squeeze(text).count(squeeze(case)) > 0, case
