"""Does an image fit its column, CT or MR? Finds exchanged pairs.

A DICOM header that names its modality is believed; elsewhere the values decide, as far as they can.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Literal

from vwmm.config.schema import Modality
from vwmm.data.checks.image_facts import ImageFacts
from vwmm.data.cohort.cases import Case
from vwmm.data.transforms.hounsfield import FAT_HU, HIGHEST_HU, LOWEST_HU
from vwmm.system.problems import Problem

Kind = Literal["CT", "MR"]
_CT_WORDS = {"ct", "cta", "ctp", "ncct", "cect", "hrct", "ldct"}
_MR_WORDS = {"mr", "mri", "mra", "t1", "t1w", "t2", "t2w", "flair", "dwi", "adc", "swi", "tof", "pd", "mprage"}
_NO_CT = "an MR, or a CT in stored values, without its slope and intercept"
# Other values of Modality (DICOM PS3.3 C.7.3.1.1.1, a selection); what is none of them may be a name.
_KNOWN = {
    "PT", "NM", "US", "CR", "DX", "XA", "RF", "MG", "ES", "OT", "SC", "SM", "OP", "OPT", "XC", "IVUS", "SEG", "SR",
    "PR", "KO", "DOC", "REG", "RTIMAGE", "RTDOSE", "RTSTRUCT", "RTPLAN",
}  # fmt: skip
# In a CT or an MR the border is air, or what fills the field of view: dark, or mixed.
INVERTED_SHARE = 0.9
# Air in this share of the voxels, exactly where Hounsfield put it, is found in no MR.
_AIR_SHARE = 0.01


def expected_kind(name: str, modality: Modality) -> Kind | None:
    """The kind of a modality, from its window in HU or its name; None: neither CT nor MR, or unknown."""
    words = set(re.findall(r"[a-z]+\d?w?", name.lower()))
    if modality.window_hu is not None or words & _CT_WORDS:
        return "CT"
    return "MR" if words & _MR_WORDS else None


def apparent_kind(facts: ImageFacts) -> Kind | None:
    """The kind of an image, by its header, else by its values; None: they fit either."""
    if facts.header.modality in ("CT", "MR"):
        return "CT" if facts.header.modality == "CT" else "MR"
    if facts.unit == "HU":
        return "CT"
    lowest, low, high, _, air = facts.levels
    if air >= _AIR_SHARE and low >= LOWEST_HU and high <= HIGHEST_HU:
        return "CT"
    # Magnitudes, but for what a correction leaves below 0; up to 255 it may be a picture of either.
    return "MR" if lowest > FAT_HU and high > 255 and not facts.hounsfield.is_masked else None


def plausibility(
    case: Case, images: Mapping[str, ImageFacts], modalities: Mapping[str, Modality], files: Mapping[str, str]
) -> list[Problem]:
    """Errors in the kinds and values of one case's images. files: each as the CSV has it."""
    expected = {name: expected_kind(name, modalities[name]) for name in images}
    apparent = {name: apparent_kind(facts) for name, facts in images.items()}
    wrong = {
        name: apparent[name]
        for name in images
        if expected[name] and apparent[name] and expected[name] != apparent[name]
    }
    findings, told = [], set[str]()
    for ct in (name for name in wrong if expected[name] == "CT"):
        mr = next((name for name in wrong if expected[name] == "MR" and name not in told), None)
        if mr is not None:
            told |= {ct, mr}
            text = f"column {ct} has an MR ({_span(images[ct])}), column {mr} a CT ({_span(images[mr])})"
            findings.append(Problem(text, "swapped", case.line, case.name, ct, files[ct]))
    for name in sorted(wrong.keys() - told):
        text = f"looks like {'a CT' if wrong[name] == 'CT' else _NO_CT} ({_reason(images[name])})"
        if images[name].header.modality == "MR":
            text = text.replace(_NO_CT, "an MR")
        findings.append(Problem(text, "wrong_kind", case.line, case.name, name, files[name]))
    for name, facts in images.items():
        if expected[name] and facts.bright_border >= INVERTED_SHARE:
            text = (
                f"{facts.bright_border:.0%} of the border is as bright as the brightest of it; air is dark in CT and MR"
            )
            findings.append(Problem(text, "inverted", case.line, case.name, name, files[name]))
        modality = facts.header.modality
        if expected[name] and modality not in ("", "CT", "MR"):
            shown = modality if modality in _KNOWN else "something else"
            text = f"its DICOM header has {shown}, the column is for {expected[name]}"
            findings.append(Problem(text, "wrong_kind", case.line, case.name, name, files[name]))
        elif name not in wrong and modalities[name].window_hu is not None and (reason := facts.hounsfield.problem):
            findings.append(Problem(reason, "hu_range", case.line, case.name, name, files[name]))
    return findings


def _reason(facts: ImageFacts) -> str:
    return f"DICOM header: {facts.header.modality}" if facts.header.modality in ("CT", "MR") else _span(facts)


def _span(facts: ImageFacts) -> str:
    return f"values {facts.levels[0]:.5g} to {facts.levels[3]:.5g}"


def mixed_formats(
    cases: Sequence[Case], modalities: Sequence[str], facts: Mapping[tuple[str, str], ImageFacts]
) -> list[Problem]:
    """Modalities in which some images are pictures: those cannot be oriented by their headers."""
    findings = []
    for name in modalities:
        formats = [facts[case.name, name].format for case in cases if (case.name, name) in facts]
        num_pictures = sum(kind in ("picture", "array") for kind in formats)
        if 0 < num_pictures < len(formats):
            others = ", ".join(sorted({kind.replace("_", " ") for kind in formats} - {"picture", "array"}))
            text = (
                f"{num_pictures} of {len(formats)} images are pictures or arrays, which have no orientation; the "
                f"others ({others}) are oriented by their headers, so the two kinds may differ in orientation"
            )
            findings.append(Problem(text, "mixed_formats", modality=name))
    return findings
