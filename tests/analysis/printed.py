"""The five pages with much in them, and what of them reaches paper."""

import html as html_text
import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pypdfium2

from tests.analysis.conftest import ORIGIN
from vwmm.analysis.association.confounding import Association
from vwmm.analysis.pages.check_report import Modality, Page, Thumbnail, render_check
from vwmm.analysis.pages.cross_validation_report import FoldResult, pool
from vwmm.analysis.pages.evaluation_report import evaluate_table
from vwmm.analysis.pages.run_report import write_report
from vwmm.analysis.pages.sweep_report import Searching, Trial, render_search
from vwmm.analysis.run_record import RunRecord, read_run
from vwmm.analysis.statistics.recorded_predictions import read_predictions
from vwmm.config.split_record import PartCount, SplitRecord
from vwmm.system.problems import Problem

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
         "--disable-background-networking", "--disable-component-update", "--disable-sync")  # fmt: skip

FOOT_PT = 40  # below this height of a sheet stands its number
CLASSES = (
    "no plaque",
    "vulnerable plaque with intraplaque haemorrhage",
    "stable plaque, fibrous cap intact, stenosis below 50 %",
)
MODALITIES = ("vw_mri", "mri", "ct")
NAMES = tuple(f"Leeds-2024-vessel-wall_patient-{number:06d}_visit-02" for number in range(30))
KEYS = {
    "train.lr": 1.5e-4,
    "train.weight_decay": 1e-5,
    "train.label_smoothing": 0.05,
    "train.class_weights": "balanced",
    "train.schedule": "cosine",
    "train.warmup_steps": 120,
    "model.backbone": "densenet121",
    "model.modality_dropout": 0.21,
    "model.hidden": "[512, 256, 128]",
    "model.dropout": 0.5,
    "augment.rotation_degrees": 12.5,
    "modalities.vw_mri.clip_percentiles": "[0.5, 99.5]",
    "modalities.ct.window_hu": "[-150.0, 550.0]",
    "train.optimizer": "adamw",
}
WORDS = "the same patient may stand in both rows under two names; the images agree in all but the last digits"


class Rows(HTMLParser):
    """The text of each cell of a table, of each paragraph, item, caption and heading."""

    TAGS = frozenset({"td", "th", "p", "li", "caption", "h1", "h2", "h3", "dt", "dd", "pre", "figcaption"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in self.TAGS:
            self._open.append(tag)
            self.texts.append("")

    def handle_endtag(self, tag: str) -> None:
        if tag in self.TAGS:
            self._open.pop()

    def handle_data(self, data: str) -> None:
        if self._open:
            self.texts[-1] += data


def texts_of(html: str) -> list[str]:
    """What a reader must find on paper; without spaces, since a line may end anywhere between words."""
    return [squeezed for text in Rows(html).texts if (squeezed := squeeze(text))]


def squeeze(text: str) -> str:
    """A text without white space and without hyphens, which the end of a line may have changed."""
    return re.sub(r"[\s\-\u00ad\u200b\ufffe\x02]", "", text)


def print_page(html: str, folder: Path) -> Path:
    """The page as Chromium prints it."""
    assert CHROMIUM is not None
    page, pdf = folder / "page.html", folder / "page.pdf"
    page.write_text(html, "utf-8")
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={folder / 'profile'}", "--no-pdf-header-footer",
               f"--print-to-pdf={pdf}", page.resolve().as_uri()]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    return pdf


def too_wide(html: str, folder: Path, width: int) -> list[str]:
    """What does not fit a window of `width` CSS pixels: the page itself, and boxes that must be scrolled sideways."""
    assert CHROMIUM is not None
    measure = (
        "<script>addEventListener('load', () => {document.title = JSON.stringify("
        "[document.documentElement, ...document.querySelectorAll('.scroll')]"
        ".filter(e => e.scrollWidth > e.clientWidth).map(e => e.tagName + e.textContent.slice(0, 60)))})</script>"
    )
    page = folder / f"{width}.html"
    allowed = re.sub(r"<meta[^>]*Content-Security-Policy[^>]*>", "", html)  # else the script may not run
    page.write_text(allowed.replace("</body>", f"{measure}</body>"), "utf-8")
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={folder / 'profile'}", f"--window-size={width},2000", "--dump-dom",
               page.resolve().as_uri()]  # fmt: skip
    shown = subprocess.run(command, check=True, capture_output=True, timeout=120, text=True).stdout
    found = re.search(r"<title>(\[.*?\])</title>", shown, re.DOTALL)
    assert found is not None, shown[:500]
    return [str(one) for one in json.loads(html_text.unescape(found[1]))]


def text_of_pdf(pdf: Path) -> str:
    """All text inside the sheets' edges, without the number at the foot of each."""
    document = pypdfium2.PdfDocument(pdf)
    return "\n".join(page.get_textpage().get_text_bounded(bottom=FOOT_PT) for page in document)


def check_page(classes: tuple[str, ...] = CLASSES, modalities_shown: tuple[str, ...] = MODALITIES[1:]) -> str:
    """36 warnings, 24 of one kind, and contact sheets of cases with long names."""
    findings = [
        Problem(f"{'very ' * n}almost the same as ct of case {NAMES[n]}: {WORDS}", "near_duplicate", 2 * n + 2,
                NAMES[n + 1], "ct", f"images/ct/{NAMES[n + 1]}.nii.gz")
        for n in range(24)
    ]  # fmt: skip
    findings += [Problem(f"patients {n} and 00{n} are written almost alike", "similar_patient_names", n + 2, NAMES[n])
                 for n in range(12)]  # fmt: skip
    findings += [Problem("acquisition parameters alone predict the label", "shortcut")]
    picture = np.arange(24 * 24, dtype=np.uint8).reshape(24, 24)
    modalities = [
        Modality(name, len(NAMES), 0, len(NAMES), {"128 x 128 x 64": 20, "96 x 96 x 64": 10},
                 {"0.5 x 0.5 x 1 mm": 30}, np.stack([np.arange(30.0), np.arange(30.0) + 100], axis=1),
                 [Thumbnail(case, classes[n % 3], picture, "warning" if n < 24 else "", "near") for n, case in
                  enumerate(NAMES)])
        for name in modalities_shown
    ]  # fmt: skip
    sites = tuple(f"hospital of city number {n} of the north-western region" for n in range(7))
    table = Association("manufacturer and model of the scanner", sites, classes, np.arange(21).reshape(7, 3), 0.4,
                        0.0001, 0.0002)  # fmt: skip
    page = Page(
        title="Check of cohort.csv", summary="30 cases of 30 patients, 60 images read: 37 warnings", findings=findings,
        classes=[(name, (8, 2)) for name in classes], parts=("train", "val"), has_split=True, tables=[table],
        shortcut="Acquisition parameters predict the label: 0.71.", is_shortcut=True, modalities=modalities,
        remarks=["one remark of the cohort"],
        origin=ORIGIN,
    )  # fmt: skip
    return render_check(page)


def search_page() -> str:
    """A sweep over many keys."""
    trials = [
        Trial(n, "complete" if n % 3 else "pruned", 0.4 + 0.01 * n, 10, 5 if n % 3 else None,
              {key: value * (n + 1) if isinstance(value, float) else value for key, value in KEYS.items()})
        for n in range(26)
    ]  # fmt: skip
    searching = Searching(
        name="search-of-many-keys", metric="loss", is_minimized=True, num_planned=30, trials=trials, best=trials[1],
        log_scaled=frozenset({"train.lr"}), chosen=frozenset(k for k, v in KEYS.items() if isinstance(v, str)),
        space={key: f"one of many values around {value}" for key, value in KEYS.items()}, test_fraction=0.1,
        origin=ORIGIN,
    )  # fmt: skip
    predictions = read_predictions(predictions_of(60), list(CLASSES), list(MODALITIES), [])
    return render_search(searching, predictions, CLASSES)


def predictions_of(num_cases: int, first: int = 0, classes: tuple[str, ...] = CLASSES) -> pd.DataFrame:
    """A table as predictions_val.csv, all text, with sites of long names."""
    generator = np.random.default_rng(first)
    labels = np.arange(num_cases) % len(classes)
    logits = generator.normal(size=(num_cases, len(classes))) + 1.5 * np.eye(len(classes))[labels]
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    table = pd.DataFrame({"case": [f"case {first + n}" for n in range(num_cases)]})
    table["patient"] = table["case"]
    table["label"] = [classes[k] for k in labels]
    table["predicted"] = [classes[k] for k in shares.argmax(axis=1)]
    for k, name in enumerate(classes):
        table[f"p_{name}"] = [repr(float(p)) for p in shares[:, k]]
    for m, name in enumerate(MODALITIES):
        table[f"present_{name}"] = ["0" if (n + m) % 5 == 0 else "1" for n in range(num_cases)]
    table["site"] = [f"hospital of city number {n % 4} of the north-western region" for n in range(num_cases)]
    return table


def evaluation_page(record: RunRecord | None = None) -> str:
    """An evaluation of three classes and four sites."""
    table = predictions_of(90)
    facts = {"run": "first", "epoch": 3, "is_test": True, "num_test_cases": 90, "times_evaluated": 2}
    return evaluate_table(table, CLASSES, MODALITIES, list(table["site"]), facts, origin=ORIGIN, record=record).page


def folds_of(number: int) -> list[FoldResult]:
    """Folds of 30 cases each."""
    parts = {"train": PartCount(30 * number - 30, 30 * number - 30), "val": PartCount(30, 30)}
    scores = {"epoch": 4, "cases": 30, "loss": 0.5, "accuracy": 0.7, "balanced_accuracy": 0.7, "auroc": 0.8}
    return [
        FoldResult(n, f"fold-{n}", predictions_of(30, 30 * n), scores,
                   SplitRecord("draw", "", "", "", parts, fold=n, folds=range(number), seed=0, is_stratified=True))
        for n in range(number)
    ]  # fmt: skip


def all_pages(make_run: Callable[..., Path], folder: Path) -> Iterator[tuple[str, str]]:
    """Name and source of each page."""
    run = make_run(folder / "a run with a long name", classes=CLASSES)
    record = read_run(run)
    yield "report", write_report(run).read_text("utf-8")
    yield "evaluation", evaluation_page(record)
    yield "cross-validation", pool("cv", folds_of(3), CLASSES, MODALITIES, origin=ORIGIN, record=record).page
    yield "check", check_page()
    yield "sweep", search_page()
