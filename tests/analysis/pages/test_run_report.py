"""The report: its numbers, what it tolerates, what it keeps to itself, and that a browser shows it."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread
from sklearn.metrics import balanced_accuracy_score, log_loss, roc_auc_score

from tests.analysis.pictures import pictures_of, text_of
from vwmm.analysis.pages.run_report import write_report
from vwmm.analysis.run_record import read_history
from vwmm.analysis.statistics.intervals import accuracy_interval
from vwmm.config.split_record import PartCount, SplitRecord

CLASSES = ("normal", "stenosis", "dissection")
Maker = Callable[..., Any]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
VOID = {"meta", "link", "br", "hr", "img", "input"}


class Page(HTMLParser):
    """Checks that tags are closed in order, and collects ids, pictures and text, that of the pictures too."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.pictures = pictures_of(html)
        self.text = ""
        self.feed(html)
        self.close()
        self.text += " ".join(map(text_of, self.pictures))
        assert self.open == [], f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.ids += [value or "" for name, value in attrs if name == "id"]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def report_of(run: Path, **options: Any) -> tuple[str, Page]:
    """The report's source and its parsed page."""
    html = write_report(run, **options).read_text("utf-8")
    return html, Page(html)


def read_predictions(run: Path) -> tuple[np.ndarray, np.ndarray]:
    """Labels (N,) and probabilities (N, K) of a run folder, read independently of the code under test."""
    table = pd.read_csv(run / "predictions_val.csv")
    labels = table["label"].map({name: k for k, name in enumerate(CLASSES)}).to_numpy()
    return labels, table[[f"p_{name}" for name in CLASSES]].to_numpy()


def test_the_numbers_are_those_of_sklearn_with_n_and_interval(run: Path) -> None:
    _, page = report_of(run)

    labels, probabilities = read_predictions(run)
    predicted = probabilities.argmax(axis=1)
    right = int((predicted == labels).sum())
    interval = accuracy_interval(predicted == labels, np.arange(60))
    assert interval is not None
    span = f"{100 * interval.low:.1f} to {100 * interval.high:.1f} %"
    losses = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    best = min((e for e in losses if e["event"] == "validation"), key=lambda e: e["loss"])["epoch"]
    assert (
        f"On 60 validation cases of 60 patients the best checkpoint (epoch {best}) was right in {right} "
        f"({100 * right / 60:.1f} %, 95 % interval {span})."
    ) in page.text
    assert f"{100 * balanced_accuracy_score(labels, predicted):.1f} %" in page.text
    assert f"{roc_auc_score(labels, probabilities, multi_class='ovr'):.3f}" in page.text
    assert f"{log_loss(labels, probabilities):.3f}" in page.text


def test_the_headline_compares_with_always_answering_the_commonest_class(run: Path) -> None:
    _, page = report_of(run)

    table = pd.read_csv(run / "predictions_val.csv")
    count, commonest = max((int((table["label"] == name).sum()), -k, name) for k, name in enumerate(CLASSES))[::2]
    headline = page.text.split("Results on the validation cases")[0]
    assert f"Always predicting the most frequent class, {commonest}, would be right in {count} " in headline
    assert "no better" not in headline


def test_headline_of_a_constant_model_calls_it_no_better_than_the_commonest_class(run: Path) -> None:
    table = pd.read_csv(run / "predictions_val.csv").head(13)
    table["label"] = [*["normal"] * 12, "stenosis"]
    table["predicted"] = "normal"
    for name, value in (("normal", 0.9), ("stenosis", 0.06), ("dissection", 0.04)):
        table[f"p_{name}"] = value
    table.to_csv(run / "predictions_val.csv", index=False)

    _, page = report_of(run)

    end = "would be right in 12 (92.3 %): by accuracy the model is no better."
    assert f"Always predicting the most frequent class, normal, {end}" in page.text


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ({"pairs": 3, "across_parts": 2}, "3 pairs of images of different patients are almost the same, 2 of them in "
         "different parts of the split: the results may be too good"),
        ({"pairs": 1, "across_parts": 0}, "1 pair of images of different patients is almost the same"),
        (None, None), ("damaged", None), ({"pairs": "x"}, None),
    ],
)  # fmt: skip
def test_near_duplicates_that_the_check_had_found_are_repeated(found: Any, words: str | None, run: Path) -> None:
    environment = json.loads((run / "environment.json").read_text())
    (run / "environment.json").write_text(json.dumps(environment | {"near_duplicates": found}))

    _, page = report_of(run)

    assert ("vwmm check found that" in page.text) == (words is not None)
    assert words is None or f"vwmm check found that {words}" in page.text


def test_the_interval_of_several_cases_a_patient_has_an_effective_number_of_cases(
    tmp_path: Path, make_run: Maker
) -> None:
    _, page = report_of(make_run(tmp_path / "run", cases_per_patient=3))

    assert "On 60 validation cases of 20 patients" in page.text
    results = page.text.split("By class")[0]
    assert "Wilson, effective number of cases" in results
    assert "no interval: a few large losses decide it" in results


def test_the_split_is_stated_as_it_was_made(run: Path) -> None:
    _, before = report_of(run)
    environment = json.loads((run / "environment.json").read_text())
    counts = {"train": (180, 170), "val": (60, 55), "test": (30, 30)}
    record = SplitRecord("column", "part", "column", "part", {k: PartCount(*n) for k, n in counts.items()})
    (run / "environment.json").write_text(json.dumps(environment | {"split": record.to_json()}))

    _, page = report_of(run)

    assert "validation 0.2" not in page.text.split("Full configuration")[0]
    assert "Splitby the column 'part'" in page.text
    for words in ("180 cases of 170 patients to train on", "60 cases of 55 patients to validate on",
                  "30 cases of 30 patients set aside to test"):  # fmt: skip
        assert words in page.text
    assert "Splitnot recorded" in before.text
    assert "seed 0" not in before.text.split("Splitnot recorded")[1].split("Full configuration")[0]


def test_the_page_is_whole_and_needs_no_network(run: Path, make_examples: Maker) -> None:
    html, page = report_of(run, examples=make_examples())

    assert html.startswith('<!DOCTYPE html>\n<html lang="en">')
    assert "content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\"" in html
    assert "://" not in html
    assert not {"script", "link", "iframe", "svg", "object"} & set(page.tags)
    addresses = re.findall(r'(?:href|src)="([^"]*)"', html)
    assert {address[:5] for address in addresses if not address.startswith("#")} == {"data:"}
    assert {address[1:] for address in addresses if address.startswith("#")} <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))
    assert len(re.findall(r'<img alt="[^"]{20,}" src="data:image/svg', html)) == html.count("<img") == 12
    for svg in page.pictures:
        hosts = {urlsplit(address).hostname for address in re.findall(r'\w+://[^"]*', svg)}
        assert hosts == {"www.w3.org"}, "names of the XML's vocabularies, which nothing loads"
    assert [path.name for path in run.iterdir() if path.name.startswith(".")] == []


def test_no_identifier_and_no_path_is_in_the_page(run: Path, make_examples: Maker, canary: str) -> None:
    html, page = report_of(run, examples=make_examples())

    for text in (html, *page.pictures):
        assert canary not in text
        assert str(run.parent) not in text
    assert "vwmm train --config my.yaml data.csv=cohort.csv data.root=...<" in html
    assert "micro_batch_size: 2" in html


def test_names_that_are_html_formulas_or_not_latin_stay_names(tmp_path: Path, make_run: Maker) -> None:
    classes = ("<script>alert(1)</script>", "$\\frac{x}$ & \"b\" 'c'", "血管 بد\u202e\x07", "NA")
    html, page = report_of(make_run(tmp_path / "run", classes=classes))

    assert "script" not in page.tags
    assert "<script" not in html
    assert "<script>alert(1)</script>" in page.text
    assert "血管" in page.text
    assert "are left out" not in page.text  # `NA` is a class, not an empty cell
    assert "\u202e" not in html
    assert "\x07" not in html


@pytest.mark.parametrize(("num_classes", "num_modalities"), [(2, 1), (20, 6)])
def test_any_number_of_classes_and_modalities(
    tmp_path: Path, num_classes: int, num_modalities: int, make_run: Maker, make_examples: Maker
) -> None:
    classes = tuple(f"class {k}" for k in range(num_classes))
    modalities = tuple(f"m{k}" for k in range(num_modalities))
    run = make_run(tmp_path / "run", classes=classes, modalities=modalities, missing=0.3, epochs=1)

    _, page = report_of(run, examples=make_examples(modalities, classes))

    assert all(name in page.text for name in (*classes, *modalities))
    assert "By the modalities that are present" in page.text


def test_accuracy_by_modalities_is_only_there_when_one_is_missing(tmp_path: Path, make_run: Maker) -> None:
    _, page = report_of(make_run(tmp_path / "run", missing=0))

    assert "By the modalities that are present" not in page.text


def test_a_run_without_predictions_says_so(run: Path) -> None:
    (run / "predictions_val.csv").unlink()

    _, page = report_of(run)

    assert "There are no predictions" in page.text
    assert "In the best epoch so far" in page.text


def test_an_empty_run_folder_still_has_a_report(tmp_path: Path) -> None:
    _, page = report_of(tmp_path)

    assert "This run has no validation result yet." in page.text
    assert "state unknown" in page.text


def test_nulls_one_epoch_and_a_torn_line_are_borne(tmp_path: Path, make_run: Maker) -> None:
    run = make_run(tmp_path / "run", epochs=1)
    event = {"event": "validation", "epoch": 1, "step": 15, "loss": 0.5, "accuracy": 0.5, "auroc": None, "cases": 60}
    (run / "metrics.jsonl").write_text(json.dumps(event) + '\n{"event": "train", "epo', "utf-8")

    html, page = report_of(run)

    assert "(epoch 1)" in page.text
    assert "metrics.jsonl has 1 incomplete line." in page.text
    assert not re.search(r"\bnan\b", html, re.IGNORECASE)


@pytest.mark.parametrize(
    ("train", "status", "expected"),
    [
        ({"monitor": "loss"}, {}, 4),
        ({"monitor": "loss", "early_stopping": {"min_delta": 0.1}}, {}, 4),  # that is for stopping only
        ({"monitor": "accuracy"}, {}, 2),  # the first of two equal ones
        ({"monitor": "auroc"}, {}, 3),  # undefined until then
        ({"monitor": "loss"}, {"best_epoch": 3}, 3),
    ],
)
def test_the_best_epoch_is_that_of_the_best_checkpoint(
    tmp_path: Path, train: dict[str, Any], status: dict[str, Any], expected: int
) -> None:
    values = [(0.9, 0.5, None), (0.5, 0.8, None), (0.7, 0.8, 0.6), (0.45, 0.7, 0.6)]
    lines = [
        json.dumps({"event": "validation", "epoch": n, "step": n, "loss": a, "accuracy": b, "auroc": c, "cases": 9})
        for n, (a, b, c) in enumerate(values, 1)
    ]
    path = tmp_path / "metrics.jsonl"
    path.write_text("\n".join(lines), "utf-8")

    history = read_history(path, config={"train": train}, status=status, notes=[])

    assert history.best_epoch == expected


def test_a_class_without_cases_has_a_dash(run: Path) -> None:
    table = pd.read_csv(run / "predictions_val.csv")
    table[table["label"] != CLASSES[2]].to_csv(run / "predictions_val.csv", index=False)

    html, _ = report_of(run)

    row = re.search(r"<th scope=\"row\"><span class=\"name\">dissection</span></th>.*?</tr>", html, re.DOTALL)
    assert row is not None
    assert row[0].count("\u2013") >= 2
    assert 'data-name="N">0<' in row[0]


def test_cases_without_a_finite_probability_are_left_out_and_counted(run: Path) -> None:
    table = pd.read_csv(run / "predictions_val.csv")
    table.loc[0, "p_normal"] = np.nan
    table.to_csv(run / "predictions_val.csv", index=False)

    _, page = report_of(run)

    assert "1 of 60 cases are left out" in page.text
    assert "On 59 validation cases" in page.text


def test_twenty_thousand_steps_make_a_small_page(tmp_path: Path, make_run: Maker) -> None:
    run = make_run(tmp_path / "run", epochs=40, steps_per_epoch=500)

    html, _ = report_of(run)

    assert len(html) < 400_000


def test_the_same_run_gives_the_same_page(run: Path, make_examples: Maker) -> None:
    first, _ = report_of(run, examples=make_examples())
    second, _ = report_of(run, examples=make_examples())

    assert first == second


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium to look at the page")
@pytest.mark.parametrize("width", [420, 1200])
def test_a_browser_shows_the_page_without_sideways_scrolling(
    run: Path, tmp_path: Path, width: int, make_examples: Maker
) -> None:
    path = write_report(run, examples=make_examples())

    shot = take_screenshot(path, tmp_path / f"{width}.png", tmp_path / "profile", width)

    pixels = imread(shot)[..., :3]
    assert pixels.shape[1] == width
    assert pixels.std() > 0.05
    assert (pixels[:, -6:] > 0.99).all()  # what is too wide would reach the right edge


def take_screenshot(path: Path, image_path: Path, profile: Path, width: int, height: int = 4200) -> Path:
    """A picture of the page; width and height in CSS pixels."""
    assert CHROMIUM is not None
    flags = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
             "--disable-background-networking", "--disable-component-update", "--disable-sync")  # fmt: skip
    command = [CHROMIUM, *flags, f"--user-data-dir={profile}", f"--window-size={width},{height}",
               f"--screenshot={image_path}", path.resolve().as_uri()]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    return image_path
