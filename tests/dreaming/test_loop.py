"""The batched dream against a plain loop over ``WorldModel.step``."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.dreaming.tape import Tape, tape
from wm_pipeline.common.randomness import (
    game_seeds,
    seeded_initialisation,
    torch_stream,
)
from wm_pipeline.dreaming import loop, step_kernel
from wm_pipeline.dreaming.cuda_graphs import Recorded, Step
from wm_pipeline.dreaming.loop import (
    CHECK_INTERVAL,
    FINISHED_SHARE,
    RolloutResult,
    dream,
)
from wm_pipeline.dreaming.noise import NOISE_BLOCK, DreamNoise
from wm_pipeline.dreaming.policies import (
    PopulationPolicy,
    ScriptedPolicy,
    script_of,
)
from wm_pipeline.environments.actions import (
    Actions,
    BoxActions,
    DiscreteActions,
    ThresholdActions,
)
from wm_pipeline.kernels import native
from wm_pipeline.kernels.native import compiled
from wm_pipeline.models.controller import Controller, ControllerOptions
from wm_pipeline.models.mdn_rnn import MDNRNN, MDNRNNOptions
from wm_pipeline.models.vae import ConvVAE
from wm_pipeline.models.world_model import WorldModel, digest
from wm_pipeline.policies.controller_policy import decision_noise
from wm_pipeline.policies.random_policy import RandomPolicy

CANDIDATES, ROLLOUTS, MAX_STEPS, TEMPERATURE = 4, 6, 25, 1.3
THRESHOLD = ThresholdActions(kind="threshold", low=2, middle=0, high=1)
BOX = BoxActions(kind="box", low=(-1.0,), high=(1.0,))
CHOICE = DiscreteActions(kind="discrete", count=3)
DRAWN = DiscreteActions(kind="discrete", count=3, sampled=True)
ALL = slice(None)


def new_controller(
    inputs: str = "zh",
    bias: bool = False,
    hidden_sizes: tuple[int, ...] = (),
    policy: str = "deterministic",
    activation: str = "tanh",
    sizes: tuple[int, int, int] = (4, 8, 1),
) -> Controller:
    options = ControllerOptions.model_validate(
        {
            "inputs": inputs,
            "hidden_sizes": hidden_sizes,
            "activation": activation,
            "bias": bias,
            "policy": policy,
        }
    )
    return Controller(options, *sizes)


def decisions(seed: int = 1) -> torch.Generator:
    return torch_stream(seed, "test decisions")


class Case(NamedTuple):
    """A population and the dreams it meets."""

    world_model: WorldModel
    controller: Controller
    vectors: Tensor
    actions: Actions
    rollouts: int = ROLLOUTS

    def noise(self, seed: int = 1, part: slice = ALL) -> DreamNoise:
        return DreamNoise.draw(
            self.world_model, self.rollouts, seed, "test", 3, part=part
        )

    def dreamed(
        self,
        vectors: Tensor,
        seed: int = 1,
        max_steps: int = MAX_STEPS,
        part: slice = ALL,
    ) -> RolloutResult:
        population = PopulationPolicy(
            self.controller, vectors, self.rollouts, self.actions, decisions(seed), part
        )
        noise = self.noise(seed, part)
        result = dream(
            self.world_model, population, len(vectors), noise, TEMPERATURE, max_steps
        )
        shape = (len(vectors), len(noise.starts))
        return RolloutResult(*(part.view(shape) for part in vars(result).values()))


def make_deadly(world_model: WorldModel) -> WorldModel:
    """Rewards that differ and dreams that end at different times."""
    random, mdn_rnn = torch.Generator().manual_seed(4), world_model.mdn_rnn
    shape = (2, mdn_rnn.hidden_size)
    with torch.no_grad():
        mdn_rnn.head.weight[-2:] = torch.randn(shape, generator=random) * 6
        mdn_rnn.head.bias[-1] = -3
        # Wide enough that the clamp of small sigmas is met as well.
        mdn_rnn.head.weight[24:36] *= 10
        mdn_rnn.reward_mean.fill_(1)
        mdn_rnn.reward_range.copy_(torch.tensor([-0.5, 2.0]))
    return world_model


def deadly_world(vae: ConvVAE, hidden: int, action_size: int) -> WorldModel:
    options = MDNRNNOptions(hidden_size=hidden, mixtures=3, frame_skip=1)
    with seeded_initialisation(1, "test deadly world"):
        mdn_rnn = MDNRNN(options, 4, action_size, digest(vae)).eval()
    with torch.no_grad():
        mdn_rnn.lstm.weight_ih_l0 *= 2  # so that the actions matter
    starts = torch.arange(20.0).view(5, 4) / 10
    return make_deadly(WorldModel(vae, mdn_rnn, starts, torch.full((5, 4), -2.0)))


@pytest.fixture(params=["c", "torch"])
def kernels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The step by either of its implementations."""
    if request.param == "torch":
        monkeypatch.setattr(step_kernel, "compiled", lambda: None)
    elif compiled() is None:
        pytest.skip("there is no C compiler")


both_kernels = pytest.mark.usefixtures("kernels")


@pytest.fixture
def deadly(world_model: WorldModel) -> WorldModel:
    return make_deadly(world_model)


@pytest.fixture(
    params=[
        ("zh", False, THRESHOLD, (), "deterministic"),
        ("zhc", False, THRESHOLD, (), "deterministic"),
        ("zhc", True, BOX, (), "deterministic"),
        ("zh", True, BOX, (), "gaussian"),
        ("zh", True, BOX, (7, 5), "deterministic"),
        ("zhc", True, BOX, (7,), "gaussian"),
        ("zh", True, CHOICE, (), "deterministic"),
        ("zhc", False, DRAWN, (), "deterministic"),
        ("zh", True, DRAWN, (7,), "gaussian"),
    ],
    ids=lambda param: "-".join(
        [*param[:1], "bias" if param[1] else "plain", param[2].kind]
        + ["sampled"] * param[2].sampled
        + [*map(str, param[3]), param[4]]
    ),
)
def case(
    kernels: None,
    vae: ConvVAE,
    deadly: WorldModel,
    request: pytest.FixtureRequest,
) -> Case:
    inputs, bias, actions, hidden_sizes, policy = request.param
    world = deadly if actions.size == 1 else deadly_world(vae, 8, actions.size)
    controller = new_controller(
        inputs, bias, hidden_sizes, policy, sizes=(4, 8, actions.outputs)
    )
    random = torch.Generator().manual_seed(0)
    vectors = torch.randn(CANDIDATES, controller.size, generator=random)
    return Case(world, controller, vectors, actions)


@torch.no_grad()
def plain_dream(
    case: Case, vector: Tensor, rollout: int, max_steps: int
) -> tuple[float, int, bool]:
    """Return and steps of one dream of one candidate, and whether it ended."""
    world_model, controller = case.world_model, case.controller
    controller.set_parameters(vector)
    noise = case.noise()
    latents = noise.starts[rollout, None]
    state = world_model.mdn_rnn.initial_state(1)
    total, length, done = 0.0, 0, False
    drawn = noise.steps(world_model.mdn_rnn.options.mixtures, 4)
    deciding = decisions()
    while not done and length < max_steps:
        gumbel, normal = next(drawn)
        own = [
            None if each is None else each[rollout, None]
            for each in decision_noise(controller, case.actions, ROLLOUTS, deciding)
        ]
        outputs = controller(latents, *state, own[0])
        control = case.actions.decide(outputs, own[1])
        latents, reward, done, state = world_model.step(
            latents,
            control,
            state,
            TEMPERATURE,
            gumbel[rollout, None].mT,
            normal[rollout, None],
        )
        total += float(reward)
        length += 1
    return total, length, done


def test_a_batch_of_dreams_equals_plain_loops(case: Case) -> None:
    found = case.dreamed(case.vectors)
    plain = [
        [plain_dream(case, vector, rollout, MAX_STEPS) for rollout in range(ROLLOUTS)]
        for vector in case.vectors
    ]
    expected = torch.tensor(plain)
    assert torch.equal(found.steps, expected[..., 1].long())
    assert torch.equal(found.ended, expected[..., 2].bool())
    # In 25 steps a dream magnifies the rounding of floats.
    torch.testing.assert_close(found.returns, expected[..., 0], rtol=1e-3, atol=1e-3)
    # Dreams leave the batch at many times, some early, some never.
    assert len(found.steps.unique()) > 4
    assert found.steps.min() < MAX_STEPS / 2
    assert found.steps.max() == MAX_STEPS
    # Those that end in the very step of a cap have ended.
    cap = int(found.steps[found.ended].max())
    assert torch.equal(case.dreamed(case.vectors, max_steps=cap).ended, found.ended)


def equal(found: RolloutResult, expected: RolloutResult, *where: Any) -> bool:
    """Whether results are those of a part of others, to the last digit."""
    return all(
        torch.equal(part, vars(expected)[name][where])
        for name, part in vars(found).items()
    )


def test_a_candidate_does_not_notice_the_others(case: Case) -> None:
    together = case.dreamed(case.vectors)
    for number in range(CANDIDATES):
        some = slice(number, number + 1)
        assert equal(case.dreamed(case.vectors[some]), together, some)
    for some in (slice(1, 3), slice(1, 4)):
        assert equal(case.dreamed(case.vectors[some]), together, some)


@pytest.mark.parametrize(
    "part", [slice(1), slice(1, 2), slice(2, 5), slice(5, 6), slice(0, 6, 2)], ids=str
)
def test_a_rollout_does_not_notice_the_others(case: Case, part: slice) -> None:
    whole = case.dreamed(case.vectors)
    assert equal(case.dreamed(case.vectors, part=part), whole, ALL, part)
    one = slice(2, 3)
    assert equal(case.dreamed(case.vectors[one], part=part), whole, one, part)


@contextmanager
def threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


# Odd sizes, which BLAS and torch's vectorised loops treat by other paths in part.
# Rows times M's units are above the 32,768 at which torch shares work out.
WIDE = {
    "linear": ((), "deterministic", "tanh", 20, BOX),
    "mlp-gaussian": ((17,), "gaussian", "silu", 19, BOX),
    "deep-sampled": ((9, 17), "deterministic", "elu", 19, DRAWN),
}


def wide_case(vae: ConvVAE, name: str) -> Case:
    """Hundreds of rows, M of a real size."""
    hidden_sizes, policy, activation, rollouts, actions = WIDE[name]
    sizes = (4, 100, actions.outputs)
    controller = new_controller("zhc", True, hidden_sizes, policy, activation, sizes)
    random = torch.Generator().manual_seed(0)
    vectors = torch.randn(31, controller.size, generator=random) / 2
    world = deadly_world(vae, 100, actions.size)
    return Case(world, controller, vectors, actions, rollouts)


@both_kernels
@pytest.mark.parametrize("name", WIDE)
def test_a_dream_does_not_depend_on_its_batch_where_there_are_many_rows(
    vae: ConvVAE, name: str
) -> None:
    case = wide_case(vae, name)
    whole = case.dreamed(case.vectors, max_steps=8)
    assert len(whole.steps.unique()) > 2
    for some, part in (
        (slice(7, 8), ALL),
        (slice(3, 14), ALL),
        (slice(0, 31), slice(3)),
        (slice(1, 30), slice(4, 19)),
        (slice(30, 31), slice(18, 19)),
    ):
        found = case.dreamed(case.vectors[some], max_steps=8, part=part)
        assert equal(found, whole, some, part)


@both_kernels
@pytest.mark.parametrize("name", WIDE)
def test_a_dream_does_not_depend_on_the_threads(vae: ConvVAE, name: str) -> None:
    case = wide_case(vae, name)
    with threads(1):
        alone = case.dreamed(case.vectors, max_steps=6)
    with threads(2):
        assert equal(case.dreamed(case.vectors, max_steps=6), alone, ALL)
        # An odd number of rows cuts a row in two between the threads.
        some, part = slice(2, 31), slice(1, 18)
        found = case.dreamed(case.vectors[some], max_steps=6, part=part)
        assert equal(found, alone, some, part)
        found = case.dreamed(case.vectors[:1], max_steps=6, part=slice(1))
        assert equal(found, alone, slice(1), slice(1))


def test_small_dreams_do_not_depend_on_the_threads(case: Case) -> None:
    with threads(1):
        alone = case.dreamed(case.vectors)
    with threads(2):
        assert equal(case.dreamed(case.vectors), alone, ALL)


@both_kernels
def test_a_narrow_head_bears_more_threads(vae: ConvVAE) -> None:
    # Its 38 columns would be shared out unevenly, by a path that depends on the rows.
    case = wide_case(vae, "linear")
    with threads(1):
        alone = case.dreamed(case.vectors, max_steps=4)
    with threads(4):
        assert equal(case.dreamed(case.vectors, max_steps=4), alone, ALL)


@settings(deadline=None, max_examples=50)
@given(data=st.data())
def test_rows_keep_their_candidate_and_rollout_whatever_is_dropped(
    data: st.DataObject,
) -> None:
    actions = data.draw(st.sampled_from([BOX, DRAWN]))
    controller = new_controller(
        data.draw(st.sampled_from(["zh", "zhc"])),
        True,
        data.draw(st.sampled_from([(), (5,)])),
        data.draw(st.sampled_from(["deterministic", "gaussian"])),
        sizes=(4, 8, actions.outputs),
    )
    candidates, rollouts = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 10))
    first = data.draw(st.integers(0, rollouts - 1))
    part = slice(first, data.draw(st.integers(first + 1, rollouts)))
    random = torch.Generator().manual_seed(0)
    vectors = torch.randn(candidates, controller.size, generator=random)
    population = PopulationPolicy(
        controller, vectors, rollouts, actions, decisions(), part
    )
    deciding = decisions()
    rows = [(who, which) for who in range(candidates) for which in range(rollouts)]
    rows = [row for row in rows if part.start <= row[1] < part.stop]
    for step in range(4):
        features = torch.randn(len(rows), 12, generator=random)
        cells = torch.randn(len(rows), 8, generator=random)
        found = population.act(features, cells, *population.draw(step))
        assert found.shape == (len(rows), actions.size)
        normal, gumbel = decision_noise(controller, actions, rollouts, deciding)
        for row, (who, which) in enumerate(rows):
            controller.set_parameters(vectors[who])
            outputs = controller(
                features[row, None, :4],
                features[row, None, 4:],
                cells[row, None],
                None if normal is None else normal[which, None],
            )
            expected = actions.decide(
                outputs, None if gumbel is None else gumbel[which, None]
            )
            torch.testing.assert_close(found[row], expected[0], rtol=0, atol=1e-4)
        kept = data.draw(st.sets(st.integers(0, len(rows) - 1), min_size=1).map(sorted))
        population.keep(torch.tensor(kept))
        rows = [rows[row] for row in kept]


# A GPU: recorded steps, fewer checks.


def test_when_finished_dreams_leave_changes_nothing(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = case.dreamed(case.vectors)
    monkeypatch.setitem(CHECK_INTERVAL, "cpu", 7)
    monkeypatch.setitem(FINISHED_SHARE, "cpu", FINISHED_SHARE["cuda"])
    sizes = batch_sizes(monkeypatch)
    assert equal(case.dreamed(case.vectors), expected, ALL)
    assert len(set(sizes)) > 1


def test_recorded_steps_give_the_same_dreams(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A tape cannot note what C does.
    for module in (step_kernel, native):
        monkeypatch.setattr(module, "compiled", lambda: None)
    expected = case.dreamed(case.vectors)
    recorded = []

    def record(step: Step, device: torch.device) -> Step:
        recorded.append(Recorded(step, tape))
        return recorded[-1]

    monkeypatch.setattr(loop, "as_cuda_graph", record)
    sizes = batch_sizes(monkeypatch)
    assert equal(case.dreamed(case.vectors), expected, ALL)
    # Every size of the batch was recorded, and then only replayed.
    assert len(recorded) > 1
    assert len(sizes) <= 2 * len(recorded) < MAX_STEPS


class DoneError(Exception):
    """A step was done."""


@pytest.fixture
def one_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dreams end with DoneError after their first step."""

    def once(step: Step, device: torch.device) -> Step:
        def done(*inputs: Tensor) -> None:
            with Tape() as noted:
                step(*inputs)
            elsewhere = {
                (str(call.function), tensor.device.type)
                for call in noted.calls
                for tensor in call.tensors()
                if tensor.device != device
            }
            assert not elsewhere, elsewhere
            raise DoneError

        return done

    monkeypatch.setattr(loop, "as_cuda_graph", once)


# Tensors on the device "meta" have no values: whoever looks at one fails. A tensor
# anywhere else would have to be copied to a GPU, for which the host waits.


@pytest.mark.usefixtures("one_step")
def test_a_step_never_looks_at_a_value(case: Case) -> None:
    case = case._replace(world_model=case.world_model.to("meta"))
    with pytest.raises(DoneError):
        case.dreamed(case.vectors.to("meta"))


@pytest.mark.usefixtures("one_step")
def test_a_step_of_a_script_never_looks_at_a_value(deadly: WorldModel) -> None:
    deadly.to("meta")
    noise = DreamNoise.draw(deadly, ROLLOUTS, 1, "test")
    script = ScriptedPolicy(torch.zeros(ROLLOUTS, 9, 1, device="meta"))
    with pytest.raises(DoneError):
        dream(deadly, script, 1, noise, 1.0, 9)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_dreams_on_a_gpu_are_those_of_the_cpu(case: Case) -> None:
    with torch.no_grad():
        case.world_model.mdn_rnn.head.weight[-1].zero_()  # No dream ends.
    expected = case.dreamed(case.vectors)
    case = case._replace(world_model=case.world_model.to("cuda"))
    found = case.dreamed(case.vectors.to("cuda"))
    assert torch.equal(found.steps, expected.steps)
    torch.testing.assert_close(found.returns, expected.returns, rtol=1e-2, atol=1e-2)


def test_a_population_passes_its_outputs_through_the_action_mapping() -> None:
    controller = new_controller()
    vectors = torch.zeros(3, controller.size)
    vectors[:, 0] = torch.tensor([-5.0, 0.0, 5.0])
    population = PopulationPolicy(controller, vectors, 1, THRESHOLD, decisions())
    found = population.act(torch.ones(3, 12), torch.ones(3, 8))
    assert found.tolist() == [[-1.0], [0.0], [1.0]]


@pytest.mark.parametrize(
    ("policy", "actions"), [("gaussian", BOX), ("deterministic", DRAWN)]
)
def test_other_decision_noise_gives_other_dreams(
    vae: ConvVAE, policy: str, actions: Actions
) -> None:
    world = deadly_world(vae, 8, actions.size)
    controller = new_controller(
        "zh", True, policy=policy, sizes=(4, 8, actions.outputs)
    )
    returns = []
    for seed in (1, 1, 2):
        population = PopulationPolicy(
            controller,
            torch.zeros(1, controller.size),
            ROLLOUTS,
            actions,
            decisions(seed),
        )
        noise = DreamNoise.draw(world, ROLLOUTS, 1, "test")
        returns.append(dream(world, population, 1, noise, 1.0, 9).returns)
    assert torch.equal(returns[0], returns[1])
    assert not torch.equal(returns[0], returns[2])


def test_same_seed_same_dreams_other_seed_other_dreams(case: Case) -> None:
    first, again, other = (case.dreamed(case.vectors, seed) for seed in (1, 1, 2))
    assert torch.equal(first.returns, again.returns)
    assert torch.equal(first.steps, again.steps)
    assert not torch.equal(first.returns, other.returns)


def test_identical_candidates_meet_identical_dreams(case: Case) -> None:
    result = case.dreamed(case.vectors[:1].repeat(5, 1))
    assert torch.equal(result.steps, result.steps[:1].expand(5, -1))
    assert torch.equal(result.returns, result.returns[:1].expand(5, -1))
    # Two rollouts that earn the least reward at every step may end with the same sum.
    assert len(result.returns[0].unique()) >= ROLLOUTS - 1


@pytest.mark.parametrize("max_steps", [1, 7])
def test_no_dream_is_longer_than_the_cap(case: Case, max_steps: int) -> None:
    capped = case.dreamed(case.vectors, max_steps=max_steps)
    full = case.dreamed(case.vectors)
    assert torch.equal(capped.steps, full.steps.clamp(max=max_steps))
    over = full.steps <= max_steps
    torch.testing.assert_close(capped.returns[over], full.returns[over])


def test_at_most_a_tenth_of_the_batch_is_finished_dreams_after_each_check(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = batch_sizes(monkeypatch)
    lengths = case.dreamed(case.vectors).steps
    assert len(sizes) == MAX_STEPS
    assert sizes[0] == CANDIDATES * ROLLOUTS
    for step, size in enumerate(sizes):
        checked = step - step % CHECK_INTERVAL["cpu"]
        assert size == sizes[checked]
        living = int((lengths > checked).sum())
        assert living <= size <= living / 0.9
    assert sizes[-1] < sizes[0]


@both_kernels
def test_a_batch_of_finished_dreams_ends_at_the_next_check(
    deadly: WorldModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    end_at_once(deadly)
    sizes = batch_sizes(monkeypatch)
    controller = new_controller()
    population = PopulationPolicy(
        controller, torch.zeros(1, controller.size), ROLLOUTS, THRESHOLD, decisions()
    )
    noise = DreamNoise.draw(deadly, ROLLOUTS, 1, "test")
    result = dream(deadly, population, 1, noise, 1.0, 100)
    assert result.steps.tolist() == [1] * ROLLOUTS
    assert sizes == [ROLLOUTS] * CHECK_INTERVAL["cpu"]


def batch_sizes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The rows of every call of a population, from now on."""
    sizes: list[int] = []
    act = PopulationPolicy.act

    def watched(population: PopulationPolicy, features: Tensor, *rest: Any) -> Tensor:
        sizes.append(len(features))
        return act(population, features, *rest)

    monkeypatch.setattr(PopulationPolicy, "act", watched)
    return sizes


def end_at_once(world_model: WorldModel) -> None:
    """Every step pays 1.25 and is the last."""
    with torch.no_grad():
        world_model.mdn_rnn.head.weight[-2:].zero_()
        world_model.mdn_rnn.head.bias[-2:] = torch.tensor([0.25, 1.0])


@both_kernels
def test_the_last_step_counts_and_what_follows_does_not(deadly: WorldModel) -> None:
    end_at_once(deadly)
    script = ScriptedPolicy(torch.zeros(ROLLOUTS, 9, 1))
    noise = DreamNoise.draw(deadly, ROLLOUTS, 1, "test")
    result = dream(deadly, script, 1, noise, 1.0, 9)
    assert result.steps.tolist() == [1] * ROLLOUTS
    assert result.returns.tolist() == [1.25] * ROLLOUTS


def test_a_hotter_dream_strays_further(deadly: WorldModel) -> None:
    with torch.no_grad():
        deadly.mdn_rnn.head.weight[-1].zero_()

    def returns(temperature: float) -> Tensor:
        noise = DreamNoise.draw(deadly, 200, 1, "test")
        script = ScriptedPolicy(torch.zeros(200, 20, 1))
        return dream(deadly, script, 1, noise, temperature, 20).returns

    assert returns(1.5).std() > 1.2 * returns(0.01).std()


def test_noise_depends_on_seed_stage_and_index(world_model: WorldModel) -> None:
    def starts(*arguments: int | str) -> Tensor:
        return DreamNoise.draw(world_model, 8, *arguments).starts

    first = starts(1, "a", 0)
    assert torch.equal(first, starts(1, "a", 0))
    for other in ((2, "a", 0), (1, "b", 0), (1, "a", 1), (1, "a", 0, 1)):
        assert not torch.equal(first, starts(*other))


def test_a_part_of_the_noise_is_that_part_of_all_noise(
    world_model: WorldModel,
) -> None:
    part = slice(2, 5)
    whole = DreamNoise.draw(world_model, 7, 1, "test")
    some = DreamNoise.draw(world_model, 7, 1, "test", part=part)
    assert torch.equal(some.starts, whole.starts[part])
    count = range(2 * NOISE_BLOCK + 1)
    steps = zip(count, some.steps(3, 4), whole.steps(3, 4), strict=False)
    for _, (gumbel, normal), (all_gumbel, all_normal) in steps:
        assert torch.equal(gumbel, all_gumbel[part])
        assert torch.equal(normal, all_normal[part])


def test_dreams_begin_near_every_real_start(world_model: WorldModel) -> None:
    world_model.start_log_variances.fill_(-20)
    starts = DreamNoise.draw(world_model, 500, 1, "test").starts
    nearest = torch.cdist(starts, world_model.start_means).min(1)
    assert nearest.values.max() < 0.01
    counts = nearest.indices.bincount(minlength=5)
    # 100 each; five binomial deviations are 45.
    assert (counts - 100).abs().max() < 45


def test_noise_is_gumbel_and_normal(world_model: WorldModel) -> None:
    noise = DreamNoise.draw(world_model, 5000, 1, "test")
    steps = noise.steps(3, 4)
    gumbel, normal = next(steps)
    assert gumbel.shape == (5000, 3, 4)
    assert normal.shape == (5000, 4)
    assert gumbel.isfinite().all()
    # Euler's constant and pi^2 / 6; more than five standard errors.
    assert gumbel.mean().item() == pytest.approx(0.5772, abs=0.03)
    assert gumbel.var().item() == pytest.approx(np.pi**2 / 6, abs=0.08)
    assert normal.mean().item() == pytest.approx(0, abs=0.04)
    assert normal.var().item() == pytest.approx(1, abs=0.06)


def test_no_step_meets_the_noise_of_another(world_model: WorldModel) -> None:
    steps = DreamNoise.draw(world_model, 2, 1, "test").steps(3, 4)
    count = 3 * NOISE_BLOCK
    noise = [next(steps) for _ in range(count)]
    gumbels, normals = (torch.stack(each) for each in zip(*noise, strict=True))
    assert len(gumbels.unique()) == count * 2 * 3 * 4
    assert len(normals.unique()) == count * 2 * 4


def test_a_script_is_read_line_by_line_and_row_by_row() -> None:
    controls = torch.arange(12.0).view(4, 3, 1)
    script, nothing = ScriptedPolicy(controls), torch.empty(0)

    def line(step: int) -> list[list[float]]:
        return script.act(nothing, nothing, *script.draw(step)).tolist()

    assert line(1) == [[1], [4], [7], [10]]
    script.keep(torch.tensor([0, 3]))
    assert line(2) == [[2], [11]]
    script.keep(torch.tensor([1]))
    assert line(0) == [[9]]


@both_kernels
def test_scripted_dreams_equal_plain_loops(deadly: WorldModel) -> None:
    random = torch.Generator().manual_seed(2)
    controls = torch.randn(ROLLOUTS, MAX_STEPS, 1, generator=random)
    noise = DreamNoise.draw(deadly, ROLLOUTS, 1, "test")
    found = dream(deadly, ScriptedPolicy(controls), 1, noise, 1.0, MAX_STEPS)
    assert len(found.steps.unique()) > 2
    for rollout in range(ROLLOUTS):
        noise = DreamNoise.draw(deadly, ROLLOUTS, 1, "test")
        latents, state = noise.starts, deadly.mdn_rnn.initial_state(ROLLOUTS)
        total = torch.zeros(ROLLOUTS)
        steps = zip(range(found.steps[rollout]), noise.steps(3, 4), strict=False)
        for step, (gumbel, normal) in steps:
            with torch.no_grad():
                latents, reward, done, state = deadly.step(
                    latents, controls[:, step], state, 1.0, gumbel.mT, normal
                )
            total += reward
        assert found.returns[rollout].item() == pytest.approx(
            total[rollout].item(), rel=1e-4, abs=1e-4
        )
        assert done[rollout] or found.steps[rollout] == MAX_STEPS


class Watched(ScriptedPolicy):
    """A script that notes what it is shown: [z, h, c]."""

    def __init__(self, controls: Tensor) -> None:
        super().__init__(controls)
        self.seen: list[Tensor] = []

    def act(self, features: Tensor, cells: Tensor, *drawn: Tensor) -> Tensor:
        self.seen.append(torch.cat((features, cells), 1))
        return super().act(features, cells, *drawn)


@both_kernels
@pytest.mark.parametrize("hidden", [8, 21])
def test_latents_and_memory_are_those_of_one_plain_dream_at_a_time(
    vae: ConvVAE, hidden: int
) -> None:
    world_model, steps = deadly_world(vae, hidden, 1), 36
    with torch.no_grad():
        head = world_model.mdn_rnn.head
        head.weight[-1].zero_()  # No dream ends, no row moves.
        head.weight[24:36] /= 10  # Wild dreams magnify the rounding of floats.
        world_model.mdn_rnn.lstm.weight_ih_l0 /= 2
    random = torch.Generator().manual_seed(3)
    script = Watched(torch.randn(ROLLOUTS, steps, 1, generator=random))
    controls = script._controls
    noise = DreamNoise.draw(world_model, ROLLOUTS, 1, "test")
    dream(world_model, script, 1, noise, TEMPERATURE, steps)
    assert len(script.seen) == steps
    for rollout in range(ROLLOUTS):
        noise = DreamNoise.draw(world_model, ROLLOUTS, 1, "test")
        latents = noise.starts[rollout, None]
        state = world_model.mdn_rnn.initial_state(1)
        for step, (gumbel, normal) in zip(
            range(steps), noise.steps(3, 4), strict=False
        ):
            torch.testing.assert_close(
                script.seen[step][rollout, None],
                torch.cat((latents, *state), 1),
                rtol=0,
                atol=1e-4,
            )
            with torch.no_grad():
                latents, _, _, state = world_model.step(
                    latents,
                    controls[rollout, step, None],
                    state,
                    TEMPERATURE,
                    gumbel[rollout, None].mT,
                    normal[rollout, None],
                )


@both_kernels
def test_a_candidate_that_is_not_a_number_fails_alone(vae: ConvVAE) -> None:
    controller = new_controller("zh", True, sizes=(4, 8, 1))
    random = torch.Generator().manual_seed(0)
    vectors = torch.randn(CANDIDATES, controller.size, generator=random)
    case = Case(deadly_world(vae, 8, 1), controller, vectors, BOX)
    healthy = case.dreamed(vectors)
    broken = vectors.clone()
    broken[1] = torch.nan
    result = case.dreamed(broken)
    assert result.returns[1].isnan().all()
    # Its end is not foreseen either.
    assert (result.steps[1] == MAX_STEPS).all()
    others = [0, 2, 3]
    assert torch.equal(result.returns[others], healthy.returns[others])
    assert torch.equal(result.steps[others], healthy.steps[others])


@both_kernels
def test_a_model_that_is_not_a_number_fails_every_dream(deadly: WorldModel) -> None:
    with torch.no_grad():
        deadly.mdn_rnn.head.bias[-2] = torch.nan
    noise = DreamNoise.draw(deadly, ROLLOUTS, 1, "test")
    result = dream(
        deadly, ScriptedPolicy(torch.zeros(ROLLOUTS, 9, 1)), 1, noise, 1.0, 9
    )
    assert result.returns.isnan().all()


def test_a_random_script_averages_the_policy_over_the_frame_skip() -> None:
    actions = DiscreteActions(kind="discrete", count=3)
    policy = RandomPolicy(actions, (1, 3))
    script = script_of(policy, 3, 5, 4, 11, "test")
    lines = torch.stack([script.draw(step)[0] for step in range(5)], 1)
    assert lines.shape == (3, 5, 3)
    assert lines.dtype == torch.float32
    for index, seed in enumerate(game_seeds(3, 11, "test, scripts")):
        state, random = policy.begin(seed)
        states, fine = [state], []
        for _ in range(5 * 4):
            control, states = policy.act(None, states, [random])
            fine.append(control[0])
        expected = [np.mean(fine[4 * step : 4 * step + 4], axis=0) for step in range(5)]
        np.testing.assert_allclose(lines[index].numpy(), expected, atol=1e-6)
    assert len(lines.unique()) > 2


def test_a_random_script_follows_its_seed_and_purpose() -> None:
    policy = RandomPolicy(BOX, (1, 2))

    def lines(seed: int, purpose: str = "test") -> list[list[float]]:
        return script_of(policy, 20, 3, 2, seed, purpose).draw(2)[0].tolist()

    assert lines(1) == lines(1)
    for others in (lines(2), lines(1, "another")):
        assert not any(line in others for line in lines(1)), "no dream has another's"
