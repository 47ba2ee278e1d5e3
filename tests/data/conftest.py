"""What the tests of the readers share."""

import warnings
from collections.abc import Iterator

import pytest


@pytest.fixture
def silence(capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    """No reader may print or warn: paths and tags hold patients' names."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
    assert capfd.readouterr() == ("", "")
