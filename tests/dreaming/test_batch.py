"""Dreams side by side: where rows are cut, filled up and dropped."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wm_pipeline.dreaming.batch import CHUNK, LEAST_ROWS, Batch, chunk_bounds
from wm_pipeline.models.mdn_rnn import MDNRNN


@settings(deadline=None)
@given(rows=st.integers(1, 5000))
def test_chunks_cover_the_rows_and_are_of_one_size(rows: int) -> None:
    bounds = chunk_bounds(rows)
    sizes = [last - first for first, last in pairwise(bounds)]
    assert bounds[0] == 0
    assert bounds[-1] == rows
    assert max(sizes) <= CHUNK * torch.get_num_threads()
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("threads", [1, 3])
def test_a_small_batch_is_filled_up(mdn_rnn: MDNRNN, threads: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        starts = torch.randn(3, mdn_rnn.latent_size)
        batch = Batch.begin(mdn_rnn, starts, 2)
        assert batch.dreams == 6
        for rows in (batch.x, batch.cells, batch.which):
            assert len(rows) == max(6, LEAST_ROWS * threads)
            assert not rows[6:].any()
        assert torch.equal(batch.x[:6, : mdn_rnn.latent_size], starts.repeat(2, 1))
        assert not batch.x[:, mdn_rnn.latent_size :].any()
        assert batch.which[:6].tolist() == [0, 1, 2] * 2
        kept = batch.kept(torch.tensor([1, 5]))
        assert kept.dreams == 2
        assert len(kept.x) == LEAST_ROWS * threads
        assert torch.equal(kept.x[:2], batch.x[[1, 5]])
        assert kept.which[:2].tolist() == [1, 2]
    finally:
        torch.set_num_threads(before)


def test_chunks_share_the_memory_of_the_batch(mdn_rnn: MDNRNN) -> None:
    batch = Batch.begin(mdn_rnn, torch.randn(CHUNK + 1, mdn_rnn.latent_size), 3)
    chunks = batch.chunks()
    assert len(chunks) > 1
    for number, chunk in enumerate(chunks):
        for part in vars(chunk).values():
            part.fill_(number % 2)
    for name, whole in vars(batch).items():
        expected = torch.cat([vars(chunk)[name] for chunk in chunks])
        assert torch.equal(whole, expected)
        assert whole.any()
