"""Tests of what says that a package is missing."""

import re

import pytest

from wm_pipeline.common.errors import InputError
from wm_pipeline.common.extras import check_installed


def test_what_is_missing_is_named_with_its_extra() -> None:
    check_installed("tune: it", "tune", "json", "re")
    sentence = "tune: it needs no_such, nor_this: pip install 'wm-pipeline[tune]'"
    with pytest.raises(InputError, match=f"^{re.escape(sentence)}$"):
        check_installed("tune: it", "tune", "json", "no_such", "nor_this")
