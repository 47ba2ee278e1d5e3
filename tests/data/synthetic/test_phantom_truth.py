"""The synthetic cohort's truth: which findings make up a class, and what each subset of the modalities can show."""

from fractions import Fraction

from vwmm.data.synthetic import phantom_truth


def test_the_ceilings_are_those_counted_by_hand() -> None:
    assert {"+".join(sorted(subset)): share for subset, share in phantom_truth.ceilings().items()} == {
        "vw_mri": Fraction(2, 3),
        "mri": Fraction(5, 9),
        "ct": Fraction(5, 9),
        "ct+mri": Fraction(2, 3),
        "ct+vw_mri": Fraction(8, 9),
        "mri+vw_mri": Fraction(8, 9),
        "ct+mri+vw_mri": Fraction(1),
    }


def test_the_classes_are_made_of_the_findings_that_the_readme_states() -> None:
    tick = {
        label: sorted(tuple(map(int, findings)) for findings in choices)
        for label, choices in phantom_truth.FINDINGS_OF.items()
    }
    assert tick == {  # wall_thick, haemorrhage, calcification
        "no_plaque": [(0, 0, 0), (0, 0, 1), (0, 1, 0), (0, 1, 1)],
        "stable_plaque": [(1, 0, 1)],
        "vulnerable_plaque": [(1, 0, 0), (1, 1, 0), (1, 1, 1)],
    }
