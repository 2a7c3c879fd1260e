"""Products with packed weights: by oneDNN, and by torch where there is none."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wm_pipeline.dreaming.products import CHUNK, chunk_bounds, product


@pytest.fixture(params=["onednn", "torch"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "torch":
        monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    elif not torch.backends.mkldnn.is_available():
        pytest.skip("torch was built without oneDNN")
    return str(request.param)


@pytest.mark.usefixtures("kind")
@pytest.mark.parametrize(("inputs", "outputs"), [(1, 1), (13, 32), (161, 512), (7, 38)])
def test_a_product_is_rows_times_weights_plus_bias(inputs: int, outputs: int) -> None:
    random = torch.Generator().manual_seed(1)
    weights = torch.randn(inputs, outputs, generator=random)
    bias = torch.randn(outputs, generator=random)
    rows = torch.randn(50, inputs + 3, generator=random)[:, 2:-1]
    expected = rows.double() @ weights.double() + bias.double()
    found = product(weights, bias)(rows)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("inputs", "outputs"), [(13, 32), (161, 512), (291, 1024)])
def test_by_onednn_a_row_does_not_depend_on_the_others(
    inputs: int, outputs: int, threads: int
) -> None:
    if not torch.backends.mkldnn.is_available():
        pytest.skip("torch was built without oneDNN")
    random = torch.Generator().manual_seed(1)
    weights = torch.randn(inputs, outputs, generator=random)
    multiply = product(weights, torch.randn(outputs, generator=random))
    rows = torch.randn(300, inputs, generator=random)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        whole = multiply(rows)
        for some in (8, 9, 16, 31, 100, 255, 256):
            for start in (0, 5, 300 - some):
                part = slice(start, start + some)
                assert torch.equal(multiply(rows[part]), whole[part])
    finally:
        torch.set_num_threads(before)


@settings(deadline=None)
@given(rows=st.integers(1, 5000))
def test_chunks_cover_the_rows_and_are_of_one_size(rows: int) -> None:
    bounds = chunk_bounds(rows)
    sizes = [last - first for first, last in pairwise(bounds)]
    assert bounds[0] == 0
    assert bounds[-1] == rows
    assert max(sizes) <= CHUNK * torch.get_num_threads()
    assert max(sizes) - min(sizes) <= 1
