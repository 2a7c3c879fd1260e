"""What the operating system says of the machine."""

from pathlib import Path

import pytest

from wm_pipeline.common import machine

CPUINFO = """\
processor\t: 0
vendor_id\t: GenuineIntel
model name\t: A fast one
flags\t\t: fpu avx2 amx_bf16

processor\t: 1
model name\t: Another
flags\t\t: none
"""


@pytest.fixture
def linux(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "is_file", lambda _: True)
    monkeypatch.setattr(Path, "read_text", lambda _: CPUINFO)


@pytest.mark.usefixtures("linux")
def test_the_first_core_speaks_for_all() -> None:
    assert machine.processor() == "A fast one"
    assert machine.vendor() == "GenuineIntel"
    assert machine.instructions() == {"fpu", "avx2", "amx_bf16"}


def test_elsewhere_there_is_a_name_and_no_instructions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Path, "is_file", lambda _: False)
    assert machine.processor()
    assert machine.vendor() == ""
    assert machine.instructions() == frozenset()
