"""The compiled pieces of training: equal to torch's, values and gradients."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor

from wm_pipeline.kernels import training
from wm_pipeline.kernels.native import compiled
from wm_pipeline.models import mdn_rnn, salience
from wm_pipeline.models.mdn_rnn import MDNRNN, MDNRNNOptions
from wm_pipeline.models.salience import (
    ColourOptions,
    Salience,
    SalienceOptions,
    Statistics,
    SurpriseOptions,
)

pytestmark = pytest.mark.usefixtures("compiler")


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def both(
    compute: Callable[[], Tensor], inputs: Sequence[Tensor], monkey: pytest.MonkeyPatch
) -> Iterator[tuple[Tensor, Tensor]]:
    """What C computes, and its gradients to the inputs, beside torch's."""

    def run() -> list[Tensor]:
        value = compute()
        return [value.detach(), *torch.autograd.grad(value, inputs)]

    by_c = run()
    with monkey.context() as patch:
        patch.setattr(training, "usable", lambda _: False)
        patch.setattr(salience, "usable", lambda _: False)
        by_torch = run()
    return zip(by_c, by_torch, strict=True)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize(
    ("batch", "time", "latent", "hidden", "mixtures"),
    [
        (1, 1, 1, 1, 1),
        (3, 5, 33, 7, 2),
        (4, 2, 16, 16, 64),
        (2, 3, 5, 8, 65),
        (13, 4, 3, 70, 1),
    ],
)
@pytest.mark.parametrize("joint", [False, True])
def test_m_is_as_torch_says(
    batch: int,
    time: int,
    latent: int,
    hidden: int,
    mixtures: int,
    joint: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.manual_seed(0)
    options = MDNRNNOptions(hidden_size=hidden, mixtures=mixtures, joint=joint)
    m = MDNRNN(options, latent, 2, "")
    with torch.no_grad():
        for weights in m.parameters():
            weights.mul_(2)
    latents, actions = drawn(batch, time + 1, latent), drawn(batch, time, 2)
    before = (drawn(batch, hidden), drawn(batch, hidden, seed=1))

    def loss() -> Tensor:
        outputs, (h, c) = m.outputs(latents[:, :-1], actions, before)
        nll, reward, done = m.compare(outputs, latents[:, 1:])
        assert nll.shape[2] == (1 if joint else latent)
        return (nll * drawn(*nll.shape)).sum() + (reward * done).sum() + h @ c.T

    for by_c, by_torch in both(lambda: loss().sum(), list(m.parameters()), monkeypatch):
        largest = max(1.0, by_torch.abs().max().item())
        torch.testing.assert_close(by_c, by_torch, rtol=1e-4, atol=1e-5 * largest)


@pytest.mark.parametrize("part", ["logit", "mean", "deviation", "target"])
@pytest.mark.parametrize("joint", [False, True])
def test_m_s_error_of_what_is_no_number_is_none(joint: bool, part: str) -> None:
    """Else a training that diverges would not be seen, nor ended."""
    latent, mixtures = 3, 2
    options = MDNRNNOptions(hidden_size=4, mixtures=mixtures, joint=joint)
    m = MDNRNN(options, latent, 1, "")
    latents = drawn(1, 3, latent)
    outputs, _ = m.outputs(latents[:, :-1], drawn(1, 2, 1), m.initial_state(1))
    outputs, targets = outputs.detach(), latents[:, 1:].clone()
    logits = mixtures if joint else latent * mixtures
    if part == "target":
        targets[0, 0, 0] = torch.nan
    else:
        at = {"logit": 0, "mean": logits, "deviation": logits + latent * mixtures}
        outputs[0, 0, at[part]] = torch.nan
    nll, _, _ = m.compare(outputs, targets)
    assert nll[0, 0, 0].isnan()
    assert nll[0, 1].isfinite().all()


def test_gradients_of_the_lstms_inputs_are_as_torch_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    m = MDNRNN(MDNRNNOptions(hidden_size=6, mixtures=2), 3, 1, "")
    latents = drawn(2, 4, 3).requires_grad_()
    state = m.initial_state(2)

    def loss() -> Tensor:
        return m.outputs(latents, drawn(2, 4, 1), state)[0].square().sum()

    for by_c, by_torch in both(loss, [latents], monkeypatch):
        torch.testing.assert_close(by_c, by_torch, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("side", [1, 4, 64])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(("around", "together"), [(1, 4096), (9, 0.5), (127, 1.5)])
@pytest.mark.parametrize("kind", ["surprise", "colour"])
def test_v_s_error_is_as_torch_says(
    kind: str,
    around: int,
    together: float,
    batch: int,
    side: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rule = {
        "surprise": SurpriseOptions(deviations=0.5, most_deviations=3.0),
        "colour": ColourOptions(kind="colour", channel=2, threshold=0.7),
    }[kind]
    options = SalienceOptions(rule=rule, around=around, weight=90.0, together=together)
    statistics = Statistics(
        drawn(64, 64, 3).sigmoid(), drawn(64, 64, 3, seed=1).abs() / 4
    )
    weigh = Salience(options, statistics)
    random = torch.Generator().manual_seed(1)
    frames = torch.randint(256, (batch, 64, 64, 3), generator=random).byte()
    count = 64 // side
    shape = (batch, count, count, side, side, 3)
    patches = (2 * drawn(*shape, seed=2)).requires_grad_()
    still = drawn(64, 64, 3, seed=3).requires_grad_()
    counts = []

    def loss() -> Tensor:
        error, counted = weigh.error(frames, patches, still)
        counts.append(counted)
        assert not counted.requires_grad
        return 0.3 * error

    for by_c, by_torch in both(loss, [patches, still], monkeypatch):
        torch.testing.assert_close(by_c, by_torch, rtol=1e-4, atol=1e-3)
    by_c, by_torch = counts
    # A reconstruction on the edge of being salient may fall on either side.
    assert (by_c - by_torch).abs().max() <= 3
    assert by_c.min() > 0


def test_there_is_no_second_time() -> None:
    m = MDNRNN(MDNRNNOptions(hidden_size=4, mixtures=2), 3, 1, "")
    outputs, _ = m.outputs(drawn(1, 2, 3), drawn(1, 2, 1), m.initial_state(1))
    value = outputs.sum()
    value.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        value.backward()


def test_other_numbers_and_devices_are_torchs() -> None:
    assert compiled() is not None
    assert training.usable(torch.zeros(1))
    assert not training.usable(torch.zeros(1, dtype=torch.float64))
    assert not training.usable(torch.zeros(1, device="meta"))


@pytest.mark.parametrize("there", [True, False])
def test_half_precision_is_torchs_where_there_are_no_tiles(
    there: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "has_tiles", lambda: there)
    assert training.usable(torch.zeros(1))
    with torch.autocast("cpu", torch.bfloat16):
        assert training.usable(torch.zeros(1)) is there
        assert not training.usable(torch.zeros(1, dtype=torch.bfloat16))


@pytest.fixture
def tiles() -> None:
    if not training.has_tiles():
        pytest.skip("there is no AMX, or no compiler that knows it")


def lstm_results(rows: int, inputs: int, hidden: int, kind: str) -> list[Tensor]:
    """What an LSTM gives, h first, and its gradients: of torch's in float64 (``exact``),
    of ours in float32 (``float32``) or with products of bfloat16 (``bfloat16``)."""
    module = torch.nn.LSTM(inputs, hidden, batch_first=True)
    with torch.no_grad():
        for weights in module.parameters():
            weights.copy_(drawn(*weights.shape) / hidden**0.5)
    values, state = drawn(rows, 5, inputs), drawn(2, rows, hidden, seed=1)
    by_h = drawn(rows, 5, hidden, seed=2)
    if kind == "exact":
        module, values, state, by_h = (
            part.double() for part in (module, values, state, by_h)
        )
    values.requires_grad_()
    if kind == "exact":
        all_h, (h, c) = module(values, (state[:1], state[1:]))
    else:
        with torch.autocast("cpu", torch.bfloat16, enabled=kind == "bfloat16"):
            before = (state[0], state[1])
            all_h, (h, c) = training.lstm(values, before, module.all_weights[0])
    loss = (all_h * by_h).sum() + h.sum() + c.square().sum()
    gradients = torch.autograd.grad(loss, [values, *module.parameters()])
    results = [all_h, h.flatten(), c.flatten(), *gradients]
    assert kind == "exact" or {part.dtype for part in results} == {torch.float32}
    return [part.detach().double() for part in results]


@pytest.mark.usefixtures("tiles")
@pytest.mark.parametrize("rows", [1, 7, 24, 48])
@pytest.mark.parametrize(
    ("inputs", "hidden"), [(5, 3), (35, 3), (5, 8), (35, 128), (35, 512)]
)
def test_tiles_are_as_exact_as_bfloat16(rows: int, inputs: int, hidden: int) -> None:
    exact, full, of_half = (
        lstm_results(rows, inputs, hidden, kind)
        for kind in ("exact", "float32", "bfloat16")
    )
    for wanted, near, found in zip(exact, full, of_half, strict=True):
        largest = wanted.abs().max().item()
        torch.testing.assert_close(near, wanted, rtol=0, atol=1e-5 * largest)
        torch.testing.assert_close(found, wanted, rtol=0, atol=2e-2 * largest)
        assert (found - near).abs().max() > 1e-5 * largest


@pytest.mark.usefixtures("tiles")
@pytest.mark.parametrize("rows", [1, 7, 33, 65])
@pytest.mark.parametrize(("inputs", "hidden"), [(1, 1), (5, 3), (33, 12), (64, 40)])
def test_tiles_add_up_what_bfloat16_holds(rows: int, inputs: int, hidden: int) -> None:
    weights = [
        drawn(*shape, seed=seed).bfloat16().float()
        for seed, shape in enumerate(
            [(4 * hidden, inputs), (4 * hidden, hidden), (4 * hidden,), (4 * hidden,)]
        )
    ]
    values = drawn(rows, 1, inputs).bfloat16().float()
    h = c = drawn(rows, hidden, seed=1).bfloat16().float()
    full, _ = training.lstm(values, (h, c), weights)
    with torch.autocast("cpu", torch.bfloat16):
        found, _ = training.lstm(values, (h, c), weights)
    torch.testing.assert_close(found, full, rtol=0, atol=2e-6)


@pytest.mark.usefixtures("tiles")
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 5, 33), (30, 40, 70)])
def test_a_layer_of_tiles_is_as_exact_as_bfloat16(shape: tuple[int, int, int]) -> None:
    batch, inputs, outputs = shape
    layer = torch.nn.Linear(inputs, outputs)
    values = drawn(batch, 2, inputs).requires_grad_()

    def results(half: bool) -> list[Tensor]:
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            found = training.linear(values, layer.weight, layer.bias)
        loss = (found * drawn(*found.shape, seed=1)).sum()
        gradients = torch.autograd.grad(loss, [values, layer.weight, layer.bias])
        return [found.detach(), *gradients]

    for found, wanted in zip(results(True), results(False), strict=True):
        largest = wanted.abs().max().item()
        torch.testing.assert_close(found, wanted, rtol=0, atol=2e-2 * largest)
    assert not torch.equal(results(True)[0], results(False)[0])


@pytest.mark.usefixtures("tiles")
def test_each_thread_has_its_own_tiles() -> None:
    def results(rows: int) -> list[Tensor]:
        return lstm_results(rows, 35, 40, "bfloat16")

    sizes = [1, 7, 24, 48] * 8
    alone = {rows: results(rows) for rows in set(sizes)}
    with ThreadPoolExecutor(4) as pool:
        for rows, found in zip(sizes, pool.map(results, sizes), strict=True):
            assert all(map(torch.equal, found, alone[rows]))


@pytest.mark.usefixtures("tiles")
def test_tiles_carry_the_state_on() -> None:
    torch.manual_seed(0)
    weights = torch.nn.LSTM(5, 12).all_weights[0]
    values, before = drawn(7, 6, 5), (drawn(7, 12), drawn(7, 12, seed=1))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        whole, state = training.lstm(values, before, weights)
        first, between = training.lstm(values[:, :2], before, weights)
        second, last = training.lstm(values[:, 2:], between, weights)
    assert torch.equal(torch.cat((first, second), 1), whole)
    assert all(map(torch.equal, last, state))


def test_the_largest_mixture_is_in_the_source() -> None:
    source = training.__file__.removesuffix("py") + "c"
    with open(source) as text:
        assert f"MOST_MIXTURES = {training.MOST_MIXTURES} " in text.read()
    assert mdn_rnn.training is training
