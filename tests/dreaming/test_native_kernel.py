"""A step of M in C, but for the LSTM's product, against slow references."""

import math
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from wm_pipeline.dreaming.batch import Batch
from wm_pipeline.dreaming.native_kernel import BLOCK, NativeKernel
from wm_pipeline.kernels.native import compiled
from wm_pipeline.models.mdn_rnn import (
    LOG_SIGMA_RANGE,
    MDNRNN,
    MDNRNNOptions,
    sample_mixture,
)

CLOSE = {"rtol": 2e-6, "atol": 5e-5}
"""Of latents: sums of numbers up to some 100, each within 1e-7 of itself."""

UNTOUCHED = 12345.0
"""Marks memory that nobody should write."""


def new_mdn_rnn(
    latent: int = 4,
    hidden: int = 1,
    mixtures: int = 3,
    reward: tuple[float, float] = (0.0, 1.0),
    reward_range: tuple[float, float] = (-math.inf, math.inf),
    joint: bool = False,
) -> MDNRNN:
    options = MDNRNNOptions(hidden_size=hidden, mixtures=mixtures, joint=joint)
    mdn_rnn = MDNRNN(options, latent, 1, "digest")
    mdn_rnn.reward_mean.fill_(reward[0])
    mdn_rnn.reward_scale.fill_(reward[1])
    mdn_rnn.reward_range.copy_(torch.tensor(reward_range))
    return mdn_rnn


def new_kernel(mdn_rnn: MDNRNN) -> NativeKernel:
    library = compiled()
    if library is None:
        pytest.skip("there is no C compiler")
    return NativeKernel(library, mdn_rnn)


def new_batch(
    mdn_rnn: MDNRNN, dreams: int, rows: int | None = None, which: Tensor | None = None
) -> Batch:
    """Dreams that have all just begun, in memory marked as untouched."""
    rows = rows or dreams
    width = mdn_rnn.latent_size + mdn_rnn.hidden_size + mdn_rnn.action_size
    which = torch.arange(dreams) if which is None else which
    return Batch(
        x=torch.full((rows, width), UNTOUCHED),
        cells=torch.full((rows, mdn_rnn.hidden_size), UNTOUCHED),
        which=torch.nn.functional.pad(which, (0, rows - dreams)),
        returns=torch.zeros(dreams),
        steps=torch.zeros(dreams, dtype=torch.int64),
        alive=torch.ones(dreams, dtype=torch.bool),
    )


def randn(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


# The LSTM's cell.


def cell(
    gates: Tensor, cells: Tensor, latent: int = 4
) -> tuple[Tensor, Tensor, Tensor]:
    """x, h and c after the gates (rows, 4 hidden) met the cells (rows, hidden)."""
    rows, hidden = cells.shape
    mdn_rnn = new_mdn_rnn(latent=latent, hidden=hidden)
    batch = new_batch(mdn_rnn, rows)
    batch.cells = cells.clone()
    new_kernel(mdn_rnn).cell(gates.clone(), batch)
    return batch.x, batch.x[:, latent : latent + hidden], batch.cells


def cell_in_float64(gates: Tensor, cells: Tensor) -> tuple[Tensor, Tensor]:
    """h and c by the book."""
    input_gate, forget, new, output_gate = gates.double().chunk(4, 1)
    c = forget.sigmoid() * cells.double() + input_gate.sigmoid() * new.tanh()
    return output_gate.sigmoid() * c.tanh(), c


GATES = st.one_of(
    st.floats(-9, 9, width=32),
    st.floats(-(2.0**14), 2.0**14, width=32),
    st.sampled_from([0.0, -0.0, 1e4, -1e4, 1e-30, -1e-30, 3e38, -3e38, 7.9053, 90.0]),
)


@settings(deadline=None, max_examples=80)
@given(data=st.data())
def test_the_cell_equals_the_book_whatever_the_gates(data: st.DataObject) -> None:
    rows, hidden = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 40))
    latent = data.draw(st.integers(1, 5))
    # A few drawn values spread over all places: also places that vectors leave over.
    values = torch.tensor(data.draw(st.lists(GATES, min_size=1, max_size=12)))
    random = torch.Generator().manual_seed(data.draw(st.integers(0, 99)))
    index = torch.randint(len(values), (rows, 4 * hidden), generator=random)
    gates, cells = values[index], torch.randn(rows, hidden, generator=random) * 3
    x, h, c = cell(gates, cells, latent)
    expected_h, expected_c = cell_in_float64(gates, cells)
    # Factors with errors up to 3e-7, cells up to some 12.
    torch.testing.assert_close(c.double(), expected_c, rtol=0, atol=5e-6)
    torch.testing.assert_close(h.double(), expected_h, rtol=0, atol=5e-6)
    assert (x[:, :latent] == UNTOUCHED).all()
    assert (x[:, latent + hidden :] == UNTOUCHED).all()


def test_each_gate_has_its_own_place() -> None:
    # Gates that are 0 or 1; the cell's input is the number 3 through tanh.
    opened, shut, hidden = 1e4, -1e4, 17
    for input_gate, forget, output_gate, expected in (
        (opened, shut, opened, math.tanh(3)),
        (shut, opened, opened, 0.5),
        (opened, opened, opened, 0.5 + math.tanh(3)),
        (shut, shut, opened, 0.0),
        (opened, opened, shut, 0.5 + math.tanh(3)),
    ):
        gates = torch.tensor([input_gate, forget, 3.0, output_gate]).repeat_interleave(
            hidden
        )
        _, h, c = cell(gates[None], torch.full((1, hidden), 0.5))
        assert c[0].tolist() == pytest.approx([expected] * hidden, abs=1e-6)
        put_out = math.tanh(expected) if output_gate == opened else 0.0
        assert h[0].tolist() == pytest.approx([put_out] * hidden, abs=1e-6)


def test_the_c_tanh_is_within_4e_7_everywhere() -> None:
    rows, hidden = 1000, 1024
    grid = torch.linspace(-12, 12, rows * hidden).view(rows, hidden)
    shut, opened, nothing = (torch.full_like(grid, v) for v in (-1e4, 1e4, 0.0))
    _, _, c = cell(torch.cat((opened, shut, grid, opened), 1), nothing)
    exact = grid.double().tanh()
    assert (c - exact).abs().max() < 4e-7
    # The other use, on the way to h.
    _, h, c = cell(torch.cat((shut, opened, nothing, opened), 1), grid)
    assert (c - grid).abs().max() < 5e-6
    assert (h - c.double().tanh()).abs().max() < 4e-7
    assert h.abs().max() <= 1
    # And the sigmoid, which is made of it.
    _, _, c = cell(torch.cat((grid, shut, opened, opened), 1), nothing)
    assert (c - grid.double().sigmoid()).abs().max() < 4e-7
    assert c.min() >= 0
    assert c.max() <= 1


@pytest.mark.parametrize("hidden", [7, 16, 100])
def test_a_row_of_the_cell_does_not_depend_on_the_other_rows(hidden: int) -> None:
    gates, cells = randn(1, 33, 4 * hidden) * 3, randn(2, 33, hidden) * 2
    _, h, c = cell(gates, cells)
    for some in (slice(0, 1), slice(1, 2), slice(5, 32), slice(30, 33)):
        _, some_h, some_c = cell(gates[some], cells[some])
        assert torch.equal(some_h, h[some])
        assert torch.equal(some_c, c[some])


# The sampling.


class Sizes(NamedTuple):
    """Of a batch in ``sample``."""

    dreams: int
    latent: int
    mixtures: int
    rollouts: int

    @property
    def outputs(self) -> int:
        return 3 * self.latent * self.mixtures + 2


class Head(NamedTuple):
    """What the head says, (dreams, mixtures, latent) or (dreams,)."""

    logits: Tensor
    means: Tensor
    log_sigmas: Tensor
    reward: Tensor
    done: Tensor

    def outputs(self) -> Tensor:
        """In M's order, which has mixtures last: (dreams, outputs)."""
        parts = [each.mT.flatten(1) for each in self[:3]]
        return torch.cat((*parts, *(each[:, None] for each in self[3:])), 1)


def random_head(sizes: Sizes, seed: int) -> Head:
    shape = (sizes.dreams, sizes.mixtures, sizes.latent)
    return Head(
        randn(seed, *shape) * 2,
        randn(seed + 1, *shape) * 3,
        randn(seed + 2, *shape) * 5,
        randn(seed + 3, sizes.dreams) * 2,
        randn(seed + 4, sizes.dreams),
    )


def plain_head(sizes: Sizes) -> Head:
    """Every latent a normal of mean 0, sigma 1; rewards 0, no ends."""
    zeros = torch.zeros(sizes.dreams, sizes.mixtures, sizes.latent)
    return Head(
        zeros, zeros, zeros, torch.zeros(sizes.dreams), -torch.ones(sizes.dreams)
    )


def noise_of(sizes: Sizes, seed: int, choices: int = 0) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    shape = (sizes.rollouts, sizes.mixtures, choices or sizes.latent)
    uniform = torch.rand(shape, generator=random)
    gumbel = -torch.log(-torch.log(uniform.clamp(1e-10, 1 - 1e-7)))
    return gumbel, torch.randn(sizes.rollouts, sizes.latent, generator=random)


def sample(
    head: Head,
    gumbel: Tensor,
    normal: Tensor,
    temperature: float = 1.0,
    batch: Batch | None = None,
    mdn_rnn: MDNRNN | None = None,
) -> Batch:
    """The batch after one step in which M's head says these things of its dreams."""
    dreams, mixtures, latent = head.logits.shape
    mdn_rnn = mdn_rnn or new_mdn_rnn(latent, mixtures=mixtures)
    batch = batch or new_batch(mdn_rnn, dreams)
    outputs = head.outputs()
    if outputs.isfinite().all():
        parts = [slice(None)]
    else:  # in a sum it would spoil the other rows
        parts = [slice(row, row + 1) for row in range(dreams)]
    for rows in parts:
        # h is what says which of the different outputs a dream's are.
        different, unit = outputs[rows].unique(dim=0, return_inverse=True)
        h = torch.nn.functional.one_hot(unit, len(different)).float()
        saying = new_mdn_rnn(
            latent,
            len(different),
            mixtures,
            (mdn_rnn.reward_mean.item(), mdn_rnn.reward_scale.item()),
            tuple(mdn_rnn.reward_range.tolist()),
        )
        with torch.no_grad():
            saying.head.weight.copy_(different.T)
            saying.head.bias.zero_()
        x = torch.full((len(batch.x[rows]), latent + len(different) + 1), UNTOUCHED)
        x[: len(h), latent:-1] = h
        before = x.clone()
        part = Batch(
            x=x,
            cells=batch.cells[rows],
            which=batch.which[rows],
            returns=batch.returns[rows],
            steps=batch.steps[rows],
            alive=batch.alive[rows],
        )
        kernel = new_kernel(saying)
        kernel.sample(gumbel.clone(), normal.clone(), temperature, part)
        # h, the action and the rows that only fill up stay as they were.
        assert torch.equal(x[:, latent:], before[:, latent:])
        assert torch.equal(x[len(h) :], before[len(h) :])
        batch.x[rows][: len(h), :latent] = x[: len(h), :latent]
    return batch


def sampled_in_float64(
    head: Head, gumbel: Tensor, normal: Tensor, which: Tensor, temperature: float
) -> np.ndarray:
    """The next latents, one number at a time; the first of equals is chosen."""
    dreams, mixtures, latent = head.logits.shape
    found = np.empty((dreams, latent))
    for row in range(dreams):
        rollout = which[row]
        for place in range(latent):
            noisy = [
                head.logits[row, k, place].item() / temperature
                + gumbel[rollout, k, place].item()
                for k in range(mixtures)
            ]
            k = noisy.index(max(noisy))
            log_sigma = head.log_sigmas[row, k, place].item()
            log_sigma = min(max(log_sigma, LOG_SIGMA_RANGE[0]), LOG_SIGMA_RANGE[1])
            sigma = math.exp(log_sigma) * math.sqrt(temperature)
            found[row, place] = (
                head.means[row, k, place].item() + sigma * normal[rollout, place].item()
            )
    return found


@pytest.mark.parametrize("mixtures", [1, 3, 5])
@pytest.mark.parametrize("latent", [1, 2, 17, 32, 64])
def test_samples_equal_a_loop_over_single_numbers(latent: int, mixtures: int) -> None:
    sizes = Sizes(6, latent, mixtures, 4)
    head, (gumbel, normal) = random_head(sizes, 1), noise_of(sizes, 9)
    mdn_rnn = new_mdn_rnn(latent, 3, mixtures)
    # Rollouts out of order, one of them twice and one of them never.
    which = torch.tensor([3, 0, 0, 3, 1, 3])
    batch = new_batch(mdn_rnn, 6, rows=9, which=which)
    sample(head, gumbel, normal, 1.3, batch, mdn_rnn)
    expected = sampled_in_float64(head, gumbel, normal, which, 1.3)
    np.testing.assert_allclose(batch.x[:6, :latent], expected, **CLOSE)
    assert (batch.cells == UNTOUCHED).all()
    assert torch.equal(batch.which[:6], which)


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_the_first_of_equal_mixtures_is_chosen(data: st.DataObject) -> None:
    # Small multiples of an eighth: sums are exact, and often equal.
    sizes = Sizes(
        data.draw(st.integers(1, 5)),
        data.draw(st.integers(1, 40)),
        data.draw(st.integers(1, 5)),
        data.draw(st.integers(1, 3)),
    )
    temperature = data.draw(st.sampled_from([0.25, 0.5, 1.0, 2.0]))
    random = torch.Generator().manual_seed(data.draw(st.integers(0, 999)))

    def eighths(*shape: int) -> Tensor:
        return torch.randint(-3, 4, shape, generator=random) / 8

    shape = (sizes.dreams, sizes.mixtures, sizes.latent)
    head = random_head(sizes, 1)._replace(logits=eighths(*shape))
    gumbel = eighths(sizes.rollouts, sizes.mixtures, sizes.latent)
    normal = torch.randn(sizes.rollouts, sizes.latent, generator=random)
    which = torch.randint(sizes.rollouts, (sizes.dreams,), generator=random)
    mdn_rnn = new_mdn_rnn(sizes.latent, mixtures=sizes.mixtures)
    batch = new_batch(mdn_rnn, sizes.dreams, which=which)
    sample(head, gumbel, normal, temperature, batch, mdn_rnn)
    expected = sampled_in_float64(head, gumbel, normal, which, temperature)
    np.testing.assert_allclose(batch.x[:, : sizes.latent], expected, **CLOSE)


def test_sigmas_are_exact_within_their_range_and_end_there() -> None:
    latent, rows = 1000, 100
    least, most = LOG_SIGMA_RANGE
    sizes = Sizes(rows, latent, 1, rows)
    grid = torch.linspace(least, most, rows * latent).view(rows, 1, latent)
    head = plain_head(sizes)._replace(log_sigmas=grid)
    gumbel, ones = torch.zeros(rows, 1, latent), torch.ones(rows, latent)
    found = sample(head, gumbel, ones).x[:, :latent]
    exact = grid[:, 0].double().exp()
    assert (found / exact - 1).abs().max() < 1e-6
    outside = torch.tensor([least - 0.01, -100, -1e30, -math.inf])
    beyond = torch.tensor([most + 0.01, 100, 1e30, math.inf])
    head = plain_head(Sizes(1, 8, 1, 1))
    head = head._replace(log_sigmas=torch.cat((outside, beyond)).view(1, 1, 8))
    found = sample(head, torch.zeros(1, 1, 8), torch.ones(1, 8)).x[0, :8]
    expected = [math.exp(least)] * 4 + [math.exp(most)] * 4
    assert found.tolist() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ((-math.inf, math.inf), [-1e6 * 2 + 0.5, -3.5, 0.5, 4.5, 1e6 * 2 + 0.5]),
        ((-1.25, 2.0), [-1.25, -1.25, 0.5, 2.0, 2.0]),
        ((-math.inf, 2.0), [-1e6 * 2 + 0.5, -3.5, 0.5, 2.0, 2.0]),
        ((1.0, 1.0), [1.0, 1.0, 1.0, 1.0, 1.0]),
    ],
    ids=str,
)
def test_rewards_are_scaled_and_paid_within_their_range(
    limits: tuple[float, float], expected: list[float]
) -> None:
    sizes = Sizes(5, 2, 3, 5)
    mdn_rnn = new_mdn_rnn(2, reward=(0.5, 2.0), reward_range=limits)
    scaled = torch.tensor([-1e6, -2.0, 0.0, 2.0, 1e6])
    head = plain_head(sizes)._replace(reward=scaled)
    batch = new_batch(mdn_rnn, 5)
    for step in (1, 2):
        sample(head, *noise_of(sizes, 1), batch=batch, mdn_rnn=mdn_rnn)
        assert batch.returns.tolist() == [step * each for each in expected]
        assert batch.steps.tolist() == [step] * 5


def test_a_dream_ends_with_the_step_whose_logit_is_positive() -> None:
    sizes = Sizes(6, 2, 3, 6)
    mdn_rnn = new_mdn_rnn(2)
    batch = new_batch(mdn_rnn, 6)
    # The first three are over already, the first with a return that is not a number.
    batch.alive[:3] = False
    batch.returns[:3] = torch.tensor([torch.nan, 7.0, 8.0])
    batch.steps[:3] = torch.tensor([3, 4, 5])
    head = plain_head(sizes)._replace(
        reward=torch.tensor([1.0, torch.nan, 1.0, 1.0, 1.0, 1.0]),
        done=torch.tensor([-1.0, -1.0, 1.0, 1e-30, 0.0, -1e-30]),
    )
    sample(head, *noise_of(sizes, 1), batch=batch, mdn_rnn=mdn_rnn)
    # The dead do not rise, nor are they paid or counted.
    assert batch.alive.tolist() == [False] * 4 + [True] * 2
    assert batch.returns.isnan().tolist() == [True] + [False] * 5
    assert batch.returns[1:].tolist() == [7.0, 8.0, 1.0, 1.0, 1.0]
    assert batch.steps.tolist() == [3, 4, 5, 1, 1, 1]


@pytest.mark.parametrize("limits", [(-math.inf, math.inf), (-1.0, 1.0)], ids=str)
def test_a_reward_that_is_not_a_number_stays_in_the_return(
    limits: tuple[float, float],
) -> None:
    sizes = Sizes(4, 3, 3, 4)
    mdn_rnn = new_mdn_rnn(3, reward_range=limits)
    batch = new_batch(mdn_rnn, 4)
    everything = torch.full((4, 3, 3), torch.nan)
    nans = torch.tensor([torch.nan] * 4)
    for head in (
        plain_head(sizes)._replace(reward=nans),
        plain_head(sizes),
        Head(everything, everything, everything, nans, nans),
        plain_head(sizes),
    ):
        sample(head, *noise_of(sizes, 1), batch=batch, mdn_rnn=mdn_rnn)
        assert batch.returns.isnan().all()
    assert batch.steps.tolist() == [4] * 4
    assert batch.alive.all()
    assert batch.x[:, :3].isfinite().all()


def test_latents_from_outputs_that_are_no_numbers_are_none() -> None:
    sizes = Sizes(2, 20, 3, 2)
    head = random_head(sizes, 1)
    for part in (head.logits, head.means, head.log_sigmas):
        part[0] = torch.nan
    found = sample(head, *noise_of(sizes, 1)).x[:, :20]
    assert found[0].isnan().all()
    assert found[1].isfinite().all()


@pytest.mark.parametrize("latent", [3, 16, 33])
def test_a_row_of_samples_does_not_depend_on_the_other_rows(latent: int) -> None:
    sizes = Sizes(33, latent, 3, 33)
    head, (gumbel, normal) = random_head(sizes, 1), noise_of(sizes, 9)
    whole = sample(head, gumbel, normal, 1.3)
    for some in (slice(0, 1), slice(1, 2), slice(5, 32), slice(30, 33)):
        part = Head(*(each[some] for each in head))
        found = sample(part, gumbel[some], normal[some], 1.3)
        assert torch.equal(found.x, whole.x[some])
        assert torch.equal(found.returns, whole.returns[some])
        assert torch.equal(found.alive, whole.alive[some])


@pytest.mark.parametrize("temperature", [0.4, 1.0, 1.8])
def test_samples_are_drawn_from_the_mixture_at_its_temperature(
    temperature: float,
) -> None:
    dreams = 40_000
    sizes = Sizes(dreams, 2, 3, dreams)
    logits = torch.tensor([[1.0, -0.5], [0.0, 0.0], [-1.0, 0.5]])
    means = torch.tensor([[-100.0, 0.0], [0.0, 100.0], [100.0, -100.0]])
    sigmas = torch.tensor([[1.0, 0.1], [0.5, 3.0], [2.0, 1.0]])
    head = Head(
        *(each.expand(dreams, 3, 2) for each in (logits, means, sigmas.log())),
        *plain_head(sizes)[3:],
    )
    found = sample(head, *noise_of(sizes, 3), temperature).x[:, :2]
    assert abs(np.corrcoef(found.T)[0, 1]) < 5 / math.sqrt(dreams)
    shares = torch.softmax(logits / temperature, 0)
    for place in range(2):
        # The mixtures lie more than 15 sigmas from each other.
        nearest = (found[:, place, None] - means[:, place]).abs().argmin(1)
        for mixture in range(3):
            own = found[nearest == mixture, place].double()
            share = shares[mixture, place].item()
            # Five standard errors each.
            error = math.sqrt(share * (1 - share) / dreams)
            assert len(own) / dreams == pytest.approx(share, abs=5 * error)
            variance = sigmas[mixture, place].item() ** 2 * temperature
            mean = means[mixture, place].item()
            assert own.mean().item() == pytest.approx(
                mean, abs=5 * math.sqrt(variance / len(own))
            )
            assert own.var().item() == pytest.approx(
                variance, rel=5 * math.sqrt(2 / len(own))
            )


# The head, evaluated only as far as sampling needs.


class Step(NamedTuple):
    """What a step of dreams from random h needs."""

    mdn_rnn: MDNRNN
    h: Tensor
    which: Tensor
    gumbel: Tensor
    normal: Tensor

    @classmethod
    def draw(
        cls, dreams: int, latent: int, hidden: int, mixtures: int, joint: bool = False
    ) -> "Step":
        rollouts = 5
        random = torch.Generator().manual_seed(dreams + latent + hidden + mixtures)
        mdn_rnn = new_mdn_rnn(latent, hidden, mixtures, joint=joint)
        with torch.no_grad():
            for values in mdn_rnn.head.parameters():
                values.copy_(torch.randn(values.shape, generator=random))
            mdn_rnn.head.weight /= hidden**0.5
        sizes = Sizes(dreams, latent, mixtures, rollouts)
        noise = noise_of(sizes, 9, mdn_rnn.choices)
        h = torch.rand(dreams, hidden, generator=random) * 2 - 1
        which = torch.randint(rollouts, (dreams,), generator=random)
        return cls(mdn_rnn, h, which, *noise)

    def part(self, rows: slice) -> "Step":
        return self._replace(h=self.h[rows], which=self.which[rows])

    def sampled(self, kernel: NativeKernel) -> Batch:
        batch = new_batch(self.mdn_rnn, len(self.h), which=self.which)
        latent, hidden = self.mdn_rnn.latent_size, self.mdn_rnn.hidden_size
        batch.x[:, latent : latent + hidden] = self.h
        kernel.sample(self.gumbel, self.normal, 1.3, batch)
        return batch

    def in_float64(self) -> tuple[np.ndarray, Tensor]:
        """The next latents and the rewards, by ``WorldModel``'s own functions."""
        prediction = self.mdn_rnn.double().predict(self.h.double())
        gumbel, normal = self.gumbel[self.which].mT, self.normal[self.which]
        found = sample_mixture(prediction, 1.3, gumbel.double(), normal.double())
        return found.detach().numpy(), prediction.reward


@pytest.mark.parametrize(
    ("dreams", "latent", "hidden", "mixtures"),
    [
        (1, 1, 1, 1),
        (2, 3, 7, 2),
        (BLOCK, 4, 16, 5),
        (BLOCK + 1, 5, 17, 3),
        (2 * BLOCK + 3, 32, 100, 5),
        (9, 64, 512, 5),
        (3, 1100, 33, 2),
        (5, 6, 40, 21),
    ],
)
@pytest.mark.parametrize("joint", [False, True])
def test_a_step_from_h_equals_the_readable_one(
    dreams: int, latent: int, hidden: int, mixtures: int, joint: bool
) -> None:
    step = Step.draw(dreams, latent, hidden, mixtures, joint)
    batch = step.sampled(new_kernel(step.mdn_rnn))
    latents, rewards = step.in_float64()
    np.testing.assert_allclose(batch.x[:, :latent], latents, rtol=2e-6, atol=2e-4)
    torch.testing.assert_close(
        batch.returns.double(), rewards.detach(), rtol=0, atol=1e-5
    )


@pytest.mark.parametrize("joint", [False, True])
def test_a_row_from_h_does_not_depend_on_the_other_rows(joint: bool) -> None:
    step = Step.draw(2 * BLOCK + 5, 9, 37, 4, joint)
    kernel = new_kernel(step.mdn_rnn)
    whole = step.sampled(kernel)
    # Products of fewer rows go by another path; the dream never asks for such.
    for rows in (slice(0, 8), slice(3, 12), slice(BLOCK - 4, BLOCK + 4), slice(9, 69)):
        found = step.part(rows).sampled(kernel)
        assert torch.equal(found.x, whole.x[rows])
        assert torch.equal(found.returns, whole.returns[rows])


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize("without", ["-mno-avx512f", "-mno-avx"])
def test_shorter_vectors_give_the_same_step(
    compiler: str, without: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Step.draw(BLOCK + 3, 10, 50, 3)
    expected = step.sampled(new_kernel(step.mdn_rnn))
    monkeypatch.setenv("CC", f"{compiler} {without}")
    compiled.cache_clear()
    if compiled() is None:
        pytest.skip("this machine has no such vectors to leave out")
    found = step.sampled(new_kernel(step.mdn_rnn))
    torch.testing.assert_close(found.x, expected.x, rtol=0, atol=1e-4)
    assert torch.equal(found.returns, expected.returns)
