"""The compiled C: tanh, draws, what is handed over, warnings and memory."""

import logging
import math
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wm_pipeline.kernels.native import (
    SOURCES,
    address,
    compiled,
    gaussian_draws,
    pixels_of,
    rows_address,
    tanh_,
)

# Pixels.


@pytest.mark.usefixtures("either")
def test_every_byte_is_a_pixel_from_0_to_1() -> None:
    frames = torch.arange(256, dtype=torch.uint8).view(1, 8, 8, 4).transpose(1, 2)
    pixels = pixels_of(frames)
    assert pixels.dtype is torch.float32
    assert torch.equal(pixels, frames.float() / 255)


# tanh.


@pytest.mark.usefixtures("either")
def test_tanh_is_within_4e_7_everywhere() -> None:
    grid = torch.linspace(-12, 12, 1_000_003)
    exact = grid.double().tanh()
    values = grid.clone()
    found = tanh_(values)
    assert found is values
    assert (found - exact).abs().max() < 4e-7
    assert found.abs().max() <= 1


@pytest.mark.usefixtures("either")
def test_tanh_of_the_ends_and_of_no_number() -> None:
    values = torch.tensor([0.0, 1e30, -1e30, math.inf, -math.inf, math.nan])
    assert tanh_(values)[:5].tolist() == pytest.approx([0, 1, -1, 1, -1], abs=4e-7)
    assert values[5].isnan()


@settings(deadline=None)
@given(count=st.integers(1, 70), seed=st.integers(0, 99))
def test_tanh_does_not_depend_on_the_place(count: int, seed: int) -> None:
    values = torch.randn(count, generator=torch.Generator().manual_seed(seed)) * 3
    alone = torch.cat([tanh_(values[i : i + 1].clone()) for i in range(count)])
    assert torch.equal(tanh_(values), alone)


# Draws.


@pytest.mark.usefixtures("either")
@pytest.mark.parametrize("leading", [(), (1,), (5,)])
@pytest.mark.parametrize(("batch", "size"), [(1, 1), (7, 3), (64, 17)])
def test_draws_are_the_mean_and_deviations_of_noise(
    leading: tuple[int, ...], batch: int, size: int
) -> None:
    random = torch.Generator().manual_seed(1)
    values = torch.randn(*leading, batch, 2 * size, generator=random) * 4
    normal = torch.randn(batch, size, generator=random)
    means, logs = values.double().split(size, -1)
    expected = means + logs.clamp(-5, 2).exp() * normal.double()
    found = gaussian_draws(values, normal, (-5.0, 2.0))
    torch.testing.assert_close(found.double(), expected, rtol=1e-6, atol=1e-5)
    # Also from columns of something larger.
    wide = torch.cat((values, values), -1)[..., : 2 * size]
    assert torch.equal(gaussian_draws(wide, normal, (-5.0, 2.0)), found)


# What is handed over.


def fake_compiler(folder: Path, script: str) -> str:
    path = folder / "fake-cc"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo 'no such luck' >&2; exit 1", "no such luck"),
        ("exit 0", "native.so"),
        ('for target; do :; done; echo nonsense > "$target"', "native.so"),
    ],
    ids=["refuses", "writes nothing", "writes nonsense"],
)
def test_a_compiler_that_fails_is_told_of_once(
    script: str,
    reason: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("CC", fake_compiler(tmp_path, script))
    with caplog.at_level(logging.INFO, "wm_pipeline"):
        for _ in range(2):
            assert compiled() is None
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert reason in record.getMessage()


@pytest.mark.parametrize(
    ("array", "dtype"),
    [
        (torch.zeros(3, 4, dtype=torch.float64), torch.float32),
        (torch.zeros(3, 4, dtype=torch.int32), torch.int64),
        (torch.zeros(4, 3), torch.float32),
        (torch.zeros(12), torch.float32),
        (torch.zeros(4, 3).T, torch.float32),
        (torch.zeros(3, 8)[:, :4], torch.float32),
        (torch.zeros(3, 4, device="meta"), torch.float32),
    ],
    ids=lambda value: str(getattr(value, "shape", value)),
)
def test_memory_that_is_not_what_c_takes_it_for_is_not_handed_over(
    array: torch.Tensor, dtype: torch.dtype
) -> None:
    with pytest.raises(AssertionError):
        address(array, (3, 4), dtype)


def test_rows_may_lie_apart_but_not_their_numbers() -> None:
    wide = torch.arange(24.0).view(3, 8)
    assert rows_address(wide[:, 2:6], (3, 4), torch.float32) == wide.data_ptr() + 8
    for rows, shape in ((wide[:, ::2], (3, 4)), (wide[:, :4], (3, 5))):
        with pytest.raises(AssertionError):
            rows_address(rows, shape, torch.float32)


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)
def test_the_sources_compile_without_warnings(
    source: Path, compiler: str, tmp_path: Path
) -> None:
    flags = ["-O3", "-Wall", "-Wextra", "-std=c99", "-pedantic"]
    command = [
        *shlex.split(compiler),
        *flags,
        "-fPIC",
        "-c",
        str(source),
        "-o",
        str(tmp_path / "a"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout + done.stderr == ""


def test_the_c_code_keeps_to_its_memory(compiler: str, tmp_path: Path) -> None:
    command = shlex.split(compiler)
    libraries = [
        subprocess.run(
            [*command, f"-print-file-name={name}"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for name in ("libasan.so", "libubsan.so")
    ]
    if not all(Path(library).is_file() for library in libraries):
        pytest.skip(f"{compiler} brings no sanitizers")
    # Optimised as we do it takes eight times as long to compile, and skips some of what
    # the sources say.
    checking = tmp_path / "checking"
    checking.write_text(
        f'#!/bin/sh\nexec {compiler} "$@" -O1 -fsanitize=address,undefined '
        "-fno-sanitize-recover\n"
    )
    checking.chmod(0o755)
    # They must be there before anything else is, hence another process.
    environment = {
        **os.environ,
        "CC": str(checking),
        "LD_PRELOAD": " ".join(libraries),
        "ASAN_OPTIONS": "detect_leaks=0",
        "XDG_CACHE_HOME": str(tmp_path),
    }
    tests = [
        "tests/dreaming/test_native_kernel.py",
        *("tests/kernels/test_training.py", "tests/kernels/test_perceptron.py"),
        *("-k", "from_h or loop or book or as_torch or linear_layers"),
    ]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-qs", "-p", "no:cacheprovider", *tests],
        cwd=Path(__file__).parents[2],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout
