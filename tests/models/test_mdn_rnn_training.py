"""M's loss window by window, its training and what it must beat."""

import copy
import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from wm_pipeline.common.machine import instructions
from wm_pipeline.common.randomness import seeded_initialisation
from wm_pipeline.kernels import training as kernels
from wm_pipeline.models.mdn_rnn import (
    MDNRNN,
    MDNRNNOptions,
    State,
    mixture_negative_log_likelihood,
    sample_mixture,
)
from wm_pipeline.models.mdn_rnn_training import (
    MDNRNNTrainingOptions,
    Sequences,
    TrivialPredictors,
    Window,
    mdn_rnn_loss,
    train_mdn_rnn,
    validate_mdn_rnn,
)
from wm_pipeline.models.noise import HostNoise
from wm_pipeline.models.training import cosine, sent
from wm_pipeline.models.world_model import digest

DONE_WEIGHT = 10.0
# exp(-40) is nothing beside the latents: samples are their means.
NO_NOISE = -80.0


@pytest.fixture
def options() -> MDNRNNTrainingOptions:
    return MDNRNNTrainingOptions(
        steps=12,
        batch_size=4,
        sequence_length=6,
        learning_rate=0.02,
        clip_norm=1.0,
        done_weight=DONE_WEIGHT,
        validate_every=4,
    )


@pytest.fixture
def trivial() -> TrivialPredictors:
    return TrivialPredictors(
        mean=torch.zeros(4), sigma=torch.full((4,), 0.7), change_sigma=torch.ones(4)
    )


@pytest.fixture
def window() -> Window:
    """Two pieces of 6 steps; the second episode ends in its step 4."""
    random = np.random.default_rng(0)
    valid = np.ones((2, 6), bool)
    valid[1, 4:] = False
    has_next = valid.copy()
    has_next[1, 3] = False
    done = np.zeros((2, 6), bool)
    done[1, 3] = True
    return Window(
        means=random.normal(size=(2, 7, 4)).astype(np.float32),
        log_variances=np.full((2, 7, 4), NO_NOISE, np.float32),
        actions=random.normal(size=(2, 6, 1)).astype(np.float32),
        rewards=random.normal(size=(2, 6)).astype(np.float32),
        done=done,
        valid=valid,
        has_next=has_next,
        fresh=np.zeros(2, bool),
    )


def changed(window: Window, **arrays: np.ndarray) -> Window:
    return dataclasses.replace(window, **arrays)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def drawn(window: Window, seed: int = 0) -> Sequences:
    return Sequences.drawn(window, HostNoise(np.random.default_rng(seed)))


def random_state(batch: int, seed: int) -> State:
    h, c = torch.randn(2, batch, 8, generator=generator(seed))
    return h, c


def losses(
    mdn_rnn: MDNRNN, window: Window, state: State, weight: float = DONE_WEIGHT
) -> tuple[float, dict[str, Any], State]:
    """The loss; its parts step by step, of those that exist; the state after it."""
    with torch.no_grad():
        loss, _, steps, state = mdn_rnn_loss(mdn_rnn, drawn(window), state, weight)
    exist = {"nll": torch.from_numpy(window.has_next)}
    valid = torch.from_numpy(window.valid)
    steps = {name: part[exist.get(name, valid)] for name, part in steps.items()}
    return loss.item(), steps, state


def waves(
    batch: int, length: int, random: np.random.Generator, noise: float = -6.0
) -> Window:
    """Two circling points, whose side is known from the past; the end is announced.

    The reward is the action, the episode ends when the action is large.
    """
    phases = random.uniform(0, 2 * np.pi, (batch, 1, 2))
    angles = phases + np.arange(length + 1)[None, :, None] * np.array([0.9, 1.7])
    actions = random.uniform(-1, 1, (batch, length, 1))
    yes = np.ones((batch, length), bool)
    return Window(
        means=np.concatenate((np.cos(angles), np.sin(angles)), 2).astype(np.float32),
        log_variances=np.full((batch, length + 1, 4), noise, np.float32),
        actions=actions.astype(np.float32),
        rewards=actions[..., 0].astype(np.float32),
        done=actions[..., 0] > 0.8,
        valid=yes,
        has_next=yes,
        fresh=np.ones(batch, bool),
    )


Windows = Callable[[int], Iterator[Window]]


def many_waves(batch: int, length: int, noise: float = -6.0) -> Windows:
    def windows(first: int) -> Iterator[Window]:
        for number in itertools.count(first):
            yield waves(batch, length, np.random.default_rng((1, number)), noise)

    return windows


def trained(
    mdn_rnn: MDNRNN,
    windows: Windows,
    validation: list[Window],
    trivial: TrivialPredictors,
    options: MDNRNNTrainingOptions,
    seed: int = 1,
) -> pd.DataFrame:
    """The history of a training to its end; M has its best weights."""
    *_, last = train_mdn_rnn(mdn_rnn, windows, validation, trivial, options, seed)
    assert last.finished
    return last.history


@pytest.fixture
def held_out() -> list[Window]:
    random = np.random.default_rng(2)
    return [waves(5, 20, random), waves(3, 12, random)]


def test_loss_by_hand(mdn_rnn: MDNRNN, window: Window) -> None:
    mdn_rnn.reward_mean.fill_(0.5)
    mdn_rnn.reward_scale.fill_(2)
    state = random_state(2, 1)
    loss, parts, _ = losses(mdn_rnn, window, state)
    means = torch.from_numpy(window.means)
    with torch.no_grad():
        prediction, _ = mdn_rnn(means[:, :-1], torch.from_numpy(window.actions), state)
    nll = mixture_negative_log_likelihood(prediction, means[:, 1:]).numpy()
    nlls, rewards, dones = [], [], []
    for row in range(2):
        for time in range(6):
            if window.has_next[row, time]:
                nlls += list(nll[row, time])
            if window.valid[row, time]:
                wanted = (window.rewards[row, time] - 0.5) / 2
                rewards.append((prediction.reward[row, time].item() - wanted) ** 2)
                ends = 1 / (1 + math.exp(-prediction.done[row, time].item()))
                if window.done[row, time]:
                    dones.append(-DONE_WEIGHT * math.log(ends))
                else:
                    dones.append(-math.log(1 - ends))
    assert (len(nlls), len(rewards), len(dones)) == (4 * 9, 10, 10)
    expected = [np.mean(part) for part in (nlls, rewards, dones)]
    found = [
        parts["nll"].mean().item(),
        parts["reward_error"].mean().item(),
        parts["done_loss"].mean().item(),
    ]
    assert found == pytest.approx(expected, rel=1e-5)
    assert loss == pytest.approx(sum(expected), rel=1e-5)
    means = mdn_rnn_loss(mdn_rnn, drawn(window), state, DONE_WEIGHT).parts
    assert list(means) == ["nll", "reward_error", "done_loss"]
    assert [mean.item() for mean in means.values()] == pytest.approx(expected, rel=1e-5)


def test_a_missed_end_costs_the_done_weight_as_often(
    mdn_rnn: MDNRNN, window: Window
) -> None:
    state = mdn_rnn.initial_state(2)
    costs = [
        losses(mdn_rnn, window, state, weight)[1]["done_loss"].mean().item()
        for weight in (1.0, 2.0, 10.0)
    ]
    assert costs[1] > costs[0]
    assert costs[2] - costs[0] == pytest.approx(9 * (costs[1] - costs[0]), rel=1e-4)
    unended = changed(window, done=np.zeros_like(window.done))
    light, heavy = (losses(mdn_rnn, unended, state, w)[0] for w in (1.0, 10.0))
    assert light == heavy


def test_fresh_pieces_forget_the_state_they_are_given(
    mdn_rnn: MDNRNN, window: Window
) -> None:
    first, second = random_state(2, 1), random_state(2, 2)
    assert losses(mdn_rnn, window, first)[0] != losses(mdn_rnn, window, second)[0]
    fresh = changed(window, fresh=np.ones(2, bool))
    expected = losses(mdn_rnn, window, mdn_rnn.initial_state(2))[0]
    assert losses(mdn_rnn, fresh, first)[0] == expected
    assert losses(mdn_rnn, fresh, second)[0] == expected


def test_only_the_fresh_rows_forget(mdn_rnn: MDNRNN, window: Window) -> None:
    half = changed(window, fresh=np.array([True, False]))
    h, c = random_state(2, 1)
    zeroed = torch.tensor([[0.0], [1.0]])
    expected = losses(mdn_rnn, window, (h * zeroed, c * zeroed))[0]
    assert losses(mdn_rnn, half, (h, c))[0] == expected


def test_the_state_carries_a_sequence_from_window_to_window(
    mdn_rnn: MDNRNN, window: Window
) -> None:
    whole = {
        field.name: getattr(window, field.name)[:1]
        for field in dataclasses.fields(window)
    }
    pieces = [
        Window(
            **{
                name: array
                if name == "fresh"
                else array[:, at : at + 3 + (name in ("means", "log_variances"))]
                for name, array in whole.items()
            }
        )
        for at in (0, 3)
    ]
    start = random_state(1, 1)
    expected, parts, last = losses(mdn_rnn, Window(**whole), start)
    first, first_parts, state = losses(mdn_rnn, pieces[0], start)
    second, second_parts, state = losses(mdn_rnn, pieces[1], state)
    assert (first + second) / 2 == pytest.approx(expected, rel=1e-5)
    joined = torch.cat((first_parts["nll"], second_parts["nll"]))
    torch.testing.assert_close(joined, parts["nll"], rtol=1e-5, atol=1e-5)
    for found, wanted in zip(state, last, strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)


def test_the_state_handed_on_holds_no_gradient(mdn_rnn: MDNRNN, window: Window) -> None:
    loss, _, _, state = mdn_rnn_loss(
        mdn_rnn, drawn(window), mdn_rnn.initial_state(2), DONE_WEIGHT
    )
    assert loss.requires_grad
    assert not any(part.requires_grad for part in state)


def test_padding_does_not_influence_the_loss(mdn_rnn: MDNRNN, window: Window) -> None:
    state = random_state(2, 1)
    expected, parts, _ = losses(mdn_rnn, window, state)
    soiled = {
        name: getattr(window, name).copy()
        for name in ("means", "actions", "rewards", "done")
    }
    soiled["means"][1, 4:] = 1e3
    for name in ("actions", "rewards", "done"):
        soiled[name][1, 4:] = True
    found, soiled_parts, _ = losses(mdn_rnn, changed(window, **soiled), state)
    assert found == expected
    assert len(parts["done_loss"]) == 10
    for name, tensor in parts.items():
        assert torch.equal(soiled_parts[name], tensor)


def test_a_window_without_any_following_latent_has_a_finite_loss(
    mdn_rnn: MDNRNN, window: Window
) -> None:
    # The last window of a sequence may hold its last step only.
    valid = np.zeros((2, 6), bool)
    valid[:, 0] = True
    last = changed(window, valid=valid, has_next=np.zeros((2, 6), bool))
    loss, *_ = mdn_rnn_loss(mdn_rnn, drawn(last), random_state(2, 1), DONE_WEIGHT)
    loss.backward()
    assert loss.isfinite()
    assert all(bool(p.grad.isfinite().all()) for p in mdn_rnn.parameters())


def test_latents_are_samples_of_the_posterior(window: Window) -> None:
    spread = changed(window, log_variances=np.full_like(window.means, math.log(4)))
    samples = torch.stack([drawn(spread, seed).latents for seed in range(400)])
    means = torch.from_numpy(window.means)
    # Five standard errors of a mean over 400 draws with deviation 2.
    torch.testing.assert_close(samples.mean(0), means, rtol=0, atol=0.5)
    assert samples.std(0).mean().item() == pytest.approx(2, rel=0.05)


def with_own(window: Window, mdn_rnn: MDNRNN, share: float) -> Sequences:
    """A window of which M reads a share of its own samples."""
    sizes = mdn_rnn.choices, mdn_rnn.options.mixtures
    return Sequences.drawn(window, HostNoise(np.random.default_rng(3)), share, sizes)


@pytest.mark.parametrize("joint", [False, True])
def test_m_reads_its_own_samples_and_is_judged_by_the_episode(
    window: Window, joint: bool
) -> None:
    options = MDNRNNOptions(hidden_size=8, mixtures=3, joint=joint)
    with seeded_initialisation(1, "own samples"):
        mdn_rnn = MDNRNN(options, 4, 1, "")
    sequences, state = with_own(window, mdn_rnn, 0.5), random_state(2, 1)
    own = sequences.own[..., 0].bool()
    assert 0 < own[:, 1:].float().mean() < 1
    with torch.no_grad():
        found = mdn_rnn_loss(mdn_rnn, sequences, state, DONE_WEIGHT)
        real = sequences.latents[:, :-1]
        prediction, _ = mdn_rnn(real, sequences.actions, state)
        samples = sample_mixture(prediction, 1.0, sequences.gumbel, sequences.normal)
        # What M expects at a step is what it reads at the next.
        read = real.clone()
        for row, step in np.argwhere(own.numpy()):
            if step:
                read[row, step] = samples[row, step - 1]
        outputs, (h, _) = mdn_rnn.outputs(read, sequences.actions, state)
        nll, *_ = mdn_rnn.compare(outputs, sequences.latents[:, 1:])
    torch.testing.assert_close(found.steps["nll"], nll)
    torch.testing.assert_close(found.state[0], h)
    assert not torch.allclose(read, real)


def test_without_own_samples_there_is_no_noise(window: Window, mdn_rnn: MDNRNN) -> None:
    sequences = with_own(window, mdn_rnn, 0.0)
    assert sequences.own.numel() == sequences.gumbel.numel() == 0
    plain = Sequences.drawn(window, HostNoise(np.random.default_rng(3)))
    assert torch.equal(sequences.latents, plain.latents)
    # A share of 1 leaves only what begins a window.
    assert with_own(window, mdn_rnn, 1.0).own.all()


def test_the_shares_of_a_windows_rows_add_up_with_own_samples(
    window: Window, mdn_rnn: MDNRNN
) -> None:
    sequences, state = with_own(window, mdn_rnn, 0.7), random_state(2, 1)
    whole = mdn_rnn_loss(mdn_rnn, sequences, state, DONE_WEIGHT).loss
    rows = [
        mdn_rnn_loss(
            mdn_rnn,
            Sequences(*(part[row : row + 1] for part in sequences)),
            (state[0][row : row + 1], state[1][row : row + 1]),
            DONE_WEIGHT,
        ).loss
        for row in range(2)
    ]
    torch.testing.assert_close(torch.stack(rows).sum(), whole)


def test_trivial_scores_are_gaussian_likelihoods() -> None:
    trivial = TrivialPredictors(
        mean=torch.tensor([1.0, -1.0]),
        sigma=torch.tensor([2.0, 0.5]),
        change_sigma=torch.tensor([0.1, 3.0]),
    )
    latents, targets = torch.randn(2, 5, 2, generator=generator())
    unchanged, marginal = trivial.scores(latents, targets)
    normal = torch.distributions.Normal
    torch.testing.assert_close(
        unchanged, -normal(latents, trivial.change_sigma).log_prob(targets)
    )
    torch.testing.assert_close(
        marginal, -normal(trivial.mean, trivial.sigma).log_prob(targets)
    )


def test_validation_scores_by_hand(
    mdn_rnn: MDNRNN, held_out: list[Window], trivial: TrivialPredictors
) -> None:
    with torch.no_grad():
        # The end is predicted exactly where h[0] is positive.
        mdn_rnn.head.weight[-1].zero_()
        mdn_rnn.head.weight[-1, 0] = 5
        mdn_rnn.head.bias[-1] = 0
    quiet = [
        changed(w, log_variances=np.full_like(w.log_variances, NO_NOISE))
        for w in held_out
    ]
    scores = validate_mdn_rnn(mdn_rnn, quiet, trivial, DONE_WEIGHT, seed=1)
    nll, predicted, done, unchanged, marginal = [], [], [], [], []
    for window in quiet:
        means = torch.from_numpy(window.means)
        state = mdn_rnn.initial_state(len(means))
        with torch.no_grad():
            prediction, _ = mdn_rnn(
                means[:, :-1], torch.from_numpy(window.actions), state
            )
        nll += mixture_negative_log_likelihood(prediction, means[:, 1:]).flatten()
        predicted += (prediction.done > 0).flatten().tolist()
        done += window.done.flatten().tolist()
        parts = trivial.scores(means[:, :-1], means[:, 1:])
        unchanged += parts[0].flatten().tolist()
        marginal += parts[1].flatten().tolist()
    called, ended = np.array(predicted), np.array(done)
    assert scores["nll"] == pytest.approx(np.mean(nll), rel=1e-5)
    assert scores["nll_unchanged"] == pytest.approx(np.mean(unchanged), rel=1e-5)
    assert scores["nll_marginal"] == pytest.approx(np.mean(marginal), rel=1e-5)
    assert scores["done_recall"] == pytest.approx(called[ended].mean())
    assert scores["done_false_alarms"] == pytest.approx(called[~ended].mean())
    assert 0 < scores["done_false_alarms"] < 1
    whole = scores["nll"] + scores["reward_error"] + scores["done_loss"]
    assert scores["loss"] == pytest.approx(whole, rel=1e-6)


def test_validation_weighs_every_step_alike(
    mdn_rnn: MDNRNN, held_out: list[Window], trivial: TrivialPredictors
) -> None:
    def score(windows: list[Window]) -> dict[str, float]:
        return validate_mdn_rnn(mdn_rnn, windows, trivial, DONE_WEIGHT, seed=1)

    quiet = [
        changed(w, log_variances=np.full_like(w.log_variances, NO_NOISE))
        for w in held_out
    ]
    long, short = (score([window]) for window in quiet)
    both = score(quiet)
    for name in ("nll", "reward_error", "done_loss"):
        expected = (100 * long[name] + 36 * short[name]) / 136
        assert both[name] == pytest.approx(expected, rel=1e-4), name


def test_episodes_that_are_over_at_once_leave_nothing_to_foresee(
    mdn_rnn: MDNRNN, held_out: list[Window], trivial: TrivialPredictors
) -> None:
    over = [changed(w, has_next=np.zeros_like(w.has_next)) for w in held_out]
    scores = validate_mdn_rnn(mdn_rnn, over, trivial, DONE_WEIGHT, seed=1)
    assert scores["nll"] == scores["nll_unchanged"] == scores["nll_marginal"] == 0
    assert scores["loss"] == scores["reward_error"] + scores["done_loss"] > 0


def test_validation_is_the_same_at_each_call(
    mdn_rnn: MDNRNN, held_out: list[Window], trivial: TrivialPredictors
) -> None:
    first, again, other = (
        validate_mdn_rnn(mdn_rnn, held_out, trivial, DONE_WEIGHT, seed)
        for seed in (1, 1, 2)
    )
    assert first == again
    assert first["nll"] != other["nll"]


def test_training_beats_both_trivial_predictors(held_out: list[Window]) -> None:
    sizes = MDNRNNOptions(hidden_size=24, mixtures=2, frame_skip=1)
    with seeded_initialisation(1, "test mdn-rnn"):
        mdn_rnn = MDNRNN(sizes, 4, 1, "")
    means = torch.from_numpy(held_out[0].means)
    trivial = TrivialPredictors(
        mean=means.mean((0, 1)),
        sigma=means.std((0, 1)),
        change_sigma=means.diff(dim=1).square().mean((0, 1)).sqrt(),
    )
    options = MDNRNNTrainingOptions(
        steps=250,
        batch_size=24,
        sequence_length=12,
        learning_rate=0.02,
        clip_norm=1.0,
        done_weight=2.0,
        validate_every=50,
    )
    before = validate_mdn_rnn(mdn_rnn, held_out, trivial, 2.0, seed=1)
    history = trained(mdn_rnn, many_waves(24, 12), held_out, trivial, options)
    after = validate_mdn_rnn(mdn_rnn, held_out, trivial, 2.0, seed=1)
    assert before["nll"] > min(before["nll_unchanged"], before["nll_marginal"])
    assert after["nll"] < after["nll_unchanged"] - 1
    assert after["nll"] < after["nll_marginal"] - 1
    assert after["reward_error"] < 0.2 * before["reward_error"]
    assert after["done_recall"] > 0.7
    assert after["done_false_alarms"] < 0.2
    assert list(history.columns) == ["step", "split", "metric", "value"]
    assert sorted(history["step"].unique()) == [50, 100, 150, 200, 250]
    validated = history[history["split"] == "validation"]
    assert set(validated["metric"]) == set(after)
    parts = ["loss", "nll", "reward_error", "done_loss"]
    means = history[history["split"] == "training"].pivot(
        index="step", columns="metric", values="value"
    )
    assert sorted(means.columns) == sorted(parts)
    np.testing.assert_allclose(means["loss"], means[parts[1:]].sum(axis=1), rtol=1e-5)
    # It learns, and the means say so.
    assert means["nll"].iloc[-1] < means["nll"].iloc[0] - 1


def test_the_best_weights_by_likelihood_are_kept(
    mdn_rnn: MDNRNN, options: MDNRNNTrainingOptions, trivial: TrivialPredictors
) -> None:
    held_out = waves(4, 6, np.random.default_rng(2))
    away = changed(held_out, means=held_out.means + 5)
    windows = lambda _: iter([held_out] * 4 + [away] * 8)  # noqa: E731
    options = options.model_copy(update={"learning_rate": 0.1})
    history = trained(mdn_rnn, windows, [held_out], trivial, options)
    nlls = history[
        (history["split"] == "validation") & (history["metric"] == "nll")
    ].set_index("step")["value"]
    assert list(nlls.index) == [4, 8, 12]
    assert nlls.idxmin() == 4
    assert nlls[12] > nlls[4] + 0.1
    kept = validate_mdn_rnn(mdn_rnn, [held_out], trivial, DONE_WEIGHT, seed=1)["nll"]
    assert kept == pytest.approx(nlls[4], rel=1e-6)


def test_the_last_step_is_validated_too(
    mdn_rnn: MDNRNN,
    options: MDNRNNTrainingOptions,
    trivial: TrivialPredictors,
    held_out: list[Window],
) -> None:
    options = options.model_copy(update={"steps": 5})
    history = trained(mdn_rnn, many_waves(4, 6), held_out, trivial, options)
    assert sorted(history["step"].unique()) == [4, 5]


def test_each_step_cuts_the_gradient_and_lowers_the_rate(
    mdn_rnn: MDNRNN,
    options: MDNRNNTrainingOptions,
    trivial: TrivialPredictors,
    held_out: list[Window],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    norms, rates = [], []
    step = torch.optim.Adam.step

    def watched(optimiser: torch.optim.Adam, *args: Any) -> Any:
        gradients = [
            p.grad for group in optimiser.param_groups for p in group["params"]
        ]
        rates.append(optimiser.param_groups[0]["lr"])
        norms.append(torch.cat([g.flatten() for g in gradients]).norm().item())
        return step(optimiser, *args)

    monkeypatch.setattr(torch.optim.Adam, "step", watched)
    options = options.model_copy(update={"clip_norm": 0.01})
    trained(mdn_rnn, many_waves(4, 6), held_out, trivial, options)
    assert norms == pytest.approx([0.01] * 12, rel=1e-3)
    assert rates == [cosine(0.02, step, 12) for step in range(12)]


def test_same_seed_same_weights_other_seed_other_weights(
    mdn_rnn: MDNRNN,
    options: MDNRNNTrainingOptions,
    trivial: TrivialPredictors,
    held_out: list[Window],
) -> None:
    def weights(seed: int) -> str:
        twin = copy.deepcopy(mdn_rnn)
        trained(twin, many_waves(4, 6), held_out, trivial, options, seed)
        return digest(twin)

    assert weights(1) == weights(1)
    assert weights(1) != weights(2)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("steps", 0),
        ("batch_size", 0),
        ("sequence_length", 1),
        ("learning_rate", 0.0),
        ("clip_norm", 0.0),
        ("done_weight", 0.5),
        ("validate_every", 0),
    ],
)
def test_options_out_of_range_are_refused_by_name(
    options: MDNRNNTrainingOptions, name: str, value: float
) -> None:
    with pytest.raises(ValueError, match=name):
        MDNRNNTrainingOptions.model_validate({**options.model_dump(), name: value})


def test_a_step_reads_no_value_on_the_host(mdn_rnn: MDNRNN, window: Window) -> None:
    # Tensors without values: whatever asks for one, and so would wait for a GPU, fails.
    there, device = mdn_rnn.to("meta"), torch.device("meta")
    sequences = sent(with_own(window, there, 0.5), device)
    state = there.initial_state(2)
    loss, parts, _, state = mdn_rnn_loss(there, sequences, state, DONE_WEIGHT)
    loss.backward()
    for part in (*parts.values(), *state):
        assert part.device == device
    assert all(p.grad is not None for p in there.parameters())


@pytest.mark.skipif(
    not {"avx512_bf16", "amx_bf16"} & instructions(),
    reason="this processor multiplies no bfloat16",
)
@pytest.mark.parametrize("tiles", [True, False])
def test_half_precision_trains_too_and_leaves_float32(
    mdn_rnn: MDNRNN,
    options: MDNRNNTrainingOptions,
    trivial: TrivialPredictors,
    held_out: list[Window],
    tiles: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if tiles and not kernels.has_tiles():
        pytest.skip("there is no AMX, or no compiler that knows it")
    monkeypatch.setattr(kernels, "has_tiles", lambda: tiles)

    def nll(precision: str) -> float:
        """After a training of a copy."""
        twin = copy.deepcopy(mdn_rnn)
        ours = options.model_copy(update={"precision": precision, "steps": 40})
        trained(twin, many_waves(4, 6), held_out, trivial, ours)
        assert {p.dtype for p in twin.parameters()} == {torch.float32}
        return validate_mdn_rnn(twin, held_out, trivial, DONE_WEIGHT, seed=1)["nll"]

    before = validate_mdn_rnn(mdn_rnn, held_out, trivial, DONE_WEIGHT, seed=1)["nll"]
    full, of_half = nll("float32"), nll("bfloat16")
    assert full < before - 0.1
    assert of_half != full
    assert of_half == pytest.approx(full, abs=0.1 * (before - full))
