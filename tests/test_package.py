"""Tests of what importing the package sets, before torch is."""

import os
import subprocess
import sys

import pytest

LOOK = "import wm_pipeline, torch; torch.ones(4) + 1"


@pytest.mark.skipif(sys.platform != "linux", reason="torch's threads are libgomp's")
@pytest.mark.parametrize(
    ("own", "found"),
    [
        ({}, "1000"),
        ({"GOMP_SPINCOUNT": "77"}, "77"),
        ({"OMP_WAIT_POLICY": "PASSIVE"}, "0"),
    ],
)
def test_torchs_threads_turn_round_as_long_as_the_user_says(
    own: dict[str, str], found: str
) -> None:
    asked = {"OMP_DISPLAY_ENV": "VERBOSE", "OMP_NUM_THREADS": "1", **own}
    theirs = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
    kept = {name: value for name, value in os.environ.items() if name not in theirs}
    ran = subprocess.run(
        [sys.executable, "-c", LOOK],
        env=kept | asked,
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"GOMP_SPINCOUNT = '{found}'" in ran.stderr
