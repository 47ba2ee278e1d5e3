"""Names in a page: whole, safe, and broken only where they are longer than a line."""

from vwmm.analysis.pages.markup import MAX_WHOLE, breakable_key, whole, whole_path, whole_words


def test_a_name_is_kept_whole_unless_it_is_longer_than_a_line() -> None:
    assert whole("P-1") == '<span class="name">P-1</span>'
    assert whole("x" * (MAX_WHOLE + 1)).startswith('<span class="name long">')


def test_a_path_may_be_broken_after_a_slash_only() -> None:
    assert whole_path("/ct/P-1.nii") == '/<wbr><span class="name">ct</span>/<wbr><span class="name">P-1.nii</span>'


def test_a_sentence_keeps_words_with_hyphens_and_known_names_with_spaces_whole() -> None:
    found = whole_words("as of case ward 7 bed 2 and of P-1", ["ward 7 bed 2", "ward 7"])

    assert found == 'as of case <span class="name">ward 7 bed 2</span> and of <span class="name">P-1</span>'


def test_a_key_may_be_broken_after_a_dot_or_an_underscore() -> None:
    assert breakable_key("train.class_weights") == "train.<wbr>class_<wbr>weights"


def test_names_are_text_and_no_html() -> None:
    for found in (whole("<b>-"), whole_path("<b>/x"), whole_words("<b> <b>-", ["<b> x"]), breakable_key("<b>.x")):
        assert "<b>" not in found
