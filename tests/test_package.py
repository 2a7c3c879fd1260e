"""Tests of what importing the package sets, before torch is."""

import importlib
import os
import subprocess
import sys

import pytest
import torch

import wm_pipeline
from wm_pipeline.common import machine

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


AVX2 = frozenset({"avx2", "fma"})
AVX512 = AVX2 | {"avx512f"}


@pytest.mark.parametrize(
    ("vendor", "instructions", "own", "found"),
    [
        ("GenuineIntel", AVX2, None, "AUTO,STRICT"),
        ("GenuineIntel", AVX2, "COMPATIBLE", "COMPATIBLE"),
        ("GenuineIntel", AVX512, None, None),
        ("AuthenticAMD", AVX2, None, None),
        ("", frozenset(), None, None),
    ],
)
def test_mkl_is_strict_where_it_rounds_a_row_by_its_company(
    monkeypatch: pytest.MonkeyPatch,
    vendor: str,
    instructions: frozenset[str],
    own: str | None,
    found: str | None,
) -> None:
    look_at(monkeypatch, vendor, instructions, own)
    assert os.environ.get("MKL_CBWR") == found


PRODUCTS = """
import torch
torch.set_num_threads(1)
torch.manual_seed(1)
for rows, columns in ((13, 32), (8, 38), (161, 512)):
    weights, all = torch.randn(rows, columns), torch.randn(100, rows)
    products = torch.addmm(torch.zeros(columns), all, weights)
    for some in range(8, 100):
        few = torch.addmm(torch.zeros(columns), all[:some], weights)
        assert torch.equal(few, products[:some]), (rows, columns, some)
"""


@pytest.mark.skipif(
    not torch.backends.mkl.is_available() or machine.vendor() != "GenuineIntel",
    reason="MKL has Intel's kernels on Intel's processors",
)
def test_by_the_kernels_of_avx2_a_row_then_depends_on_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    look_at(monkeypatch, "GenuineIntel", AVX2, None)
    asked = {**os.environ, "MKL_ENABLE_INSTRUCTIONS": "AVX2"}
    subprocess.run([sys.executable, "-c", PRODUCTS], env=asked, check=True)


def look_at(
    monkeypatch: pytest.MonkeyPatch,
    vendor: str,
    instructions: frozenset[str],
    own: str | None,
) -> None:
    """Import the package anew, on such a processor."""
    # What the import sets is to be undone as well.
    monkeypatch.setenv("MKL_CBWR", own or "")
    if own is None:
        monkeypatch.delenv("MKL_CBWR")
    monkeypatch.setattr(machine, "vendor", lambda: vendor)
    monkeypatch.setattr(machine, "instructions", lambda: instructions)
    importlib.reload(wm_pipeline)
