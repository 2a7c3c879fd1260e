"""Which parameters are refused, and what is said of them."""

import copy
import math
import re
from collections import Counter
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from tests.option_cases import Case, all_cases, base_parameters, option_cases
from wm_pipeline.common.errors import InputError
from wm_pipeline.common.randomness import stream, torch_stream
from wm_pipeline.environments.mock import mock_world_model
from wm_pipeline.models.controller import Controller
from wm_pipeline.models.mdn_rnn import MDNRNN
from wm_pipeline.models.vae import ConvVAE
from wm_pipeline.policies.random_policy import RandomPolicy
from wm_pipeline.project.parameters import (
    check_parameters,
    known_names,
    option_groups,
)
from wm_pipeline.search.strategies import CMAES

# At these ends, others would have to change too.
NOT_ALONE = (
    "vision.pool_frames",
    "vision.training.batch_size",
    "vision.model.decoder_size",
    "import.models.vae.decoder_size",
    "benchmark.trainings.default.vision.decoder_size",
    "vision.training.salience.rule.deviations",
    "vision.training.salience.rule.most_deviations",
    "environment.actions.kind",
    "rounds.memory.batch_size",
    *(
        f"tune.space.controller.evolution.strategy.sigma.{each}"
        for each in ("low", "high", "log", "choices")
    ),
    "tune.objective.episodes",
    "tune.pruning.episodes",
    "baselines.dreams",
    "baselines.games",
    "baselines.ppo.update_steps",
    "baselines.ppo.batch_size",
    "benchmark.population",
    "dream.max_steps",
    "memory.model.frame_skip",
    "environment.max_steps",
    # A full covariance, the default, is for 5,000 parameters.
    "memory.model.hidden_size",
    "controller.evolution.strategy.kind",
)


@cache
def base() -> dict[str, Any]:
    return base_parameters()


def given(name: str, value: Any) -> dict[str, Any]:
    """The parameters of ``conf/base`` with one that is said to be something else."""
    changed = dict(base())
    parameters: Any = changed
    *groups, last = name.split(".")
    for group in groups:
        parameters[group] = dict(parameters.get(group, {}))
        parameters = parameters[group]
    parameters[last] = value
    return changed


def said(parameters: dict[str, Any], asked: dict[str, Any] | None = None) -> str:
    """What is said of wrong parameters; nothing of right ones."""
    stages = ["collection", "vision", "memory", "dream", "controller"]
    try:
        check_parameters(parameters, asked or {}, stages, {}, {})
    except InputError as error:
        return str(error)
    return ""


def build(groups: dict[str, Any]) -> None:
    """What the options are for, as far as that takes neither time nor memory."""
    vision, memory = groups["vision"].model, groups["memory"].model
    environment, search = groups["environment"], groups["controller"]
    actions = environment.actions
    networks(vision, memory, actions)
    with torch.device("meta"):
        for options in (search.model, *map_models(groups["compare"])):
            Controller(options, vision.latent_size, memory.hidden_size, actions.outputs)
    for name in ("vision", "memory", "controller", "collection", "evaluation"):
        stream(groups[name].seed, "test").random()
        torch_stream(groups[name].seed, "test")
        np.array([groups[name].seed], np.int64)
    for hold in (*groups["collection"].holds, groups["evaluation"].hold):
        policy = RandomPolicy(actions, hold)
        policy.act(None, [policy.begin(1)[0]], [policy.begin(1)[1]])
    strategy = search.evolution.strategy
    if strategy.population <= 64:
        cmaes = CMAES(strategy, 12, 1)
        candidates = cmaes.ask()
        cmaes.tell(candidates, np.arange(len(candidates), dtype=float))
        assert np.isfinite(cmaes.ask()).all()
    dream_once(groups["dream"].temperature)


@cache
def networks(vision: Any, memory: Any, actions: Any) -> None:
    with torch.device("meta"):
        ConvVAE(vision)
        MDNRNN(memory, vision.latent_size, actions.size, "")


def map_models(compare: Any) -> list[Any]:
    return [architecture.model for architecture in compare.architectures.values()]


@cache
def dream_once(temperature: float) -> None:
    """A step of the mock's world is finite at every temperature."""
    world = mock_world_model()
    latents, state = world.start_means[:1], world.mdn_rnn.initial_state(1)
    noise = torch.ones(1, world.vae.latent_size)
    gumbel = torch.ones(1, world.vae.latent_size, world.mdn_rnn.options.mixtures)
    control = torch.ones(1, world.mdn_rnn.action_size)
    with torch.inference_mode():
        dreamed, *_ = world.step(latents, control, state, temperature, gumbel, noise)
    assert dreamed.isfinite().all()


@pytest.mark.slow
def test_every_option_is_refused_with_a_sentence_or_works() -> None:
    models = option_groups()
    right = {name: model.model_validate(base()[name]) for name, model in models.items()}
    built = set()
    for case in all_cases(base()):
        sentence = said(given(case.name, case.value))
        shown = f"{case.name}={str(case.value)[:60]}: {sentence}"
        if not sentence:
            assert case.within is not False, shown
            group = case.name.split(".")[0]
            changed = models[group].model_validate(given(*case[:2])[group])
            if repr(changed) not in built:
                built.add(repr(changed))
                build(right | {group: changed})
            continue
        assert all(len(line) < 500 for line in sentence.splitlines()), shown
        assert case.name.split(".")[0] in sentence or "," in sentence, shown
        assert not case.within or case.name in NOT_ALONE, shown


@pytest.mark.slow
def test_the_cases_are_of_all_options_and_the_seed_orders_them() -> None:
    first, second = option_cases(1), option_cases(2)
    named = {case.name for case in first}
    # Items of lists and keywords of games are changed with the whole of them; of like
    # options, one is enough.
    inner = re.compile(
        r"\.\d|\.kwargs\.|architectures\.(?!linear(\.|$))|worlds\.(?!carracing(\.|$))"
        r"|trainings\.(?!default(\.|$))|searches\.(?!full(\.|$))"
        r"|tune\.space\.(?!controller)|ablation\.variants\."
    )
    known = {name for name in known_names(base()) if not inner.search(name)}
    assert known - named == {"seed"}
    assert first != second
    assert Counter(map(repr, first)) == Counter(map(repr, second))
    assert Case("dream.temperature", math.inf, False) in first
    assert Case("dream.max_steps", 1000001, False) in first
    assert Case("controller.evolution.strategy.population", 2, True) in first
    assert Case("dream.temperature", math.inf, False).text == ".inf"


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("controler.evolution.generations", "controller.evolution.generations"),
        ("evolution.generations", "controller.evolution.generations"),
        ("sead", "seed"),
        ("dream.temprature", "dream.temperature"),
        ("controller.evolution.stop.secnds", "controller.evolution.stop.seconds"),
        ("compare.architectures.linear.model.polcy", "compare.architectures.linear.model.policy"),
        ("benchmark.worlds.carracing.step", "benchmark.worlds.carracing.steps"),
        ("environment.actions.hihg", "environment.actions.high"),
        ("latent_size", "vision.model.latent_size"),
    ],
)  # fmt: skip
def test_a_misspelt_option_is_refused_with_the_nearest_name(
    name: str, meant: str
) -> None:
    expected = f"{name} is no option; did you mean {meant}?"
    if meant.startswith("vision"):  # several are as near
        expected = f"{name} is no option; did you mean "
    assert said(given(name, "7")).startswith(expected)


def test_a_name_with_dots_is_for_the_command_line() -> None:
    """As a notebook may hand it to a session, where Kedro splits nothing."""
    found = said({**base(), "rounds.games": 7})
    assert found.startswith("rounds.games: expected `rounds` with `games` in it, found")


def test_what_is_near_to_nothing_is_refused_too() -> None:
    assert said(given("qqqqqq", "7")) == "qqqqqq is no option."


def test_a_misspelt_option_inside_a_list_is_named() -> None:
    layer = [{"chanels": 3, "kernel": 4, "stride": 4}]
    sentences = said(given("vision.model.encoder", layer)).splitlines()
    assert sentences[0] == "vision.model.encoder.0.channels: Field required."
    assert sentences[1] == (
        "vision.model.encoder.0.chanels is no option; did you mean "
        "vision.model.encoder.0.channels?"
    )


def test_conf_files_may_keep_values_for_themselves_but_the_command_line_not() -> None:
    parameters = given("_mine.hold", [1, 2])
    assert said(parameters) == ""
    assert "_mine.hold is no option" in said(parameters, {"_mine": {}})


def test_a_group_that_no_file_has_is_named() -> None:
    parameters = copy.deepcopy(base())
    del parameters["dream_check"]
    assert said(parameters) == (
        "dream_check: expected these options, found none in the conf files."
    )


def test_a_game_that_cannot_be_asked_for_its_actions_is_said_as_it_is() -> None:
    wrong = {**base()["environment"], "id": "Nowhere-v0", "actions": "auto"}
    sentence = said(given("environment", wrong))
    assert sentence.startswith("environment.id: cannot make 'Nowhere-v0': ")
    assert sentence.endswith("as in ale_py:ALE/Pong-v5.")


def test_actions_of_a_game_that_was_not_asked_are_not_complained_of() -> None:
    wrappers = [{"name": "TimeLimit"}]
    wrong = {**base()["environment"], "wrappers": wrappers, "actions": "auto"}
    sentence = said(given("environment", wrong))
    assert sentence.startswith("environment.wrappers.0.name: String should match")
    assert "\n" not in sentence


def test_a_long_value_is_cut_short() -> None:
    assert len(said(given("dream.max_steps", "x" * 5000))) < 250


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("dream.max_steps", 3, "dream.max_steps: expected at least the 4 steps"),
        ("environment.max_steps", 4, "memory.model.frame_skip: expected less than the steps of the longest episode (environment.max_steps, 4), found 4"),
        ("controller.model.hidden_sizes", [64], "at most 5,000 parameters for 'full'"),
        ("controller.evolution.strategy.population", 10_000, ""),
        ("controller.evolution", {"strategy": {"kind": "full", "population": 1001, "sigma": 0.1}, "generations": 1, "rollouts": 1000}, "controller: evaluator.max_dreams: expected a number"),
        ("compare.seeds", [1, 1], "compare: seeds: expected each once"),
        ("collection.holds", [[1, 9], [1, 9]], "collection: holds: expected each once"),
        ("collection.sweeps", [[9, 9], [9, 9]], "sweeps: expected each once, found"),
        ("compare.population", 3, ""),
        ("ablation.variants", {"a": {}, "b": {"dream.temprature": 1}}, "ablation.variants.b: dream.temprature is no option; did you mean dream.temperature?"),
        ("ablation.variants", {"a": {}, "b": {"dream.temperature": 0}}, "ablation.variants.b.dream.temperature: Input should be greater than"),
        ("ablation.variants", {"a": {}, "b": {"none.x": 0}}, "ablation.variants.b: none.x is no option"),
        ("ablation.variants", {"a": {}, "b": {"seed": 5}}, "ablation.variants.b: expected options of stages, such as controller.seed, found seed."),
        ("ablation.variants", {"a": {}, "b": {"vision.pool_frames": 10}}, "ablation.variants.b.vision: "),
        ("ablation.variants", {"a": {}, "b": {"vision.pool_frames": 10, "vision.training.batch_size": 5}}, ""),
        ("benchmark.population", 3, "population: expected at least 4 for 'vd'"),
        ("vision.model.decoder_size", 5, "decoder: expected to end at (3, 64, 64), found (3, 80, 80)"),
        ("vision.model.encoder", [{"channels": 1, "kernel": 2, "stride": 1, "padding": 64}, {"channels": 4096, "kernel": 1, "stride": 1}], "encoder: expected to end in at most 65,536 numbers"),
    ],
)  # fmt: skip
def test_options_that_do_not_go_together_are_refused_before_any_stage(
    name: str, value: Any, expected: str
) -> None:
    sentence = said(given(name, value))
    assert expected in sentence
    assert bool(expected) == bool(sentence)


TAKES = {"rounds.memory.batch_size": "memory.training.batch_size"}
RUNS = {stage: {"params:memory", "params:rounds"} for stage in ("tune", "ablation")}
TAKEN = "rounds.memory.batch_size takes 1 of memory.training.batch_size: memory.batch_s"


def of_runs(
    changed: str, value: Any, references: dict[str, str], read: dict[str, set[str]]
) -> str:
    """What is said of runs with some options changed; nothing of right ones."""
    try:
        check_parameters(given(changed, value), {}, [], references, read)
    except InputError as error:
        return str(error)
    return ""


def test_a_variant_that_breaks_what_refers_to_it_is_refused() -> None:
    small: dict[str, Any] = {"memory.training.batch_size": 1}
    variants = {"a": {}, "b": small}
    found = of_runs("ablation.variants", variants, TAKES, RUNS)
    assert found.startswith(f"ablation.variants.b: {TAKEN}")
    # Where no run has rounds, or these have a size of their own, it breaks nothing.
    for references, read in [(TAKES, {"ablation": {"params:memory"}}), ({}, RUNS)]:
        assert of_runs("ablation.variants", variants, references, read) == ""
    variants["b"] = small | {"rounds.memory.batch_size": 2}
    assert of_runs("ablation.variants", variants, TAKES, RUNS) == ""


def test_a_range_that_breaks_what_refers_to_it_is_refused() -> None:
    space: dict[str, Any] = {"memory.training.batch_size": {"low": 1, "high": 4}}
    found = of_runs("tune.space", space, TAKES, RUNS)
    assert found.startswith(f"tune.space: {TAKEN}")
    space["rounds.memory.batch_size"] = {"low": 2, "high": 4}
    assert of_runs("tune.space", space, TAKES, RUNS) == ""


def test_a_part_of_a_list_is_not_tuned() -> None:
    part = "vision.model.encoder.0.channels"
    space: dict[str, Any] = {part: {"low": 8, "high": 9}}
    assert of_runs("tune.space", space, {}, RUNS).startswith(
        f"tune.space.{part}: expected choices of the whole list vision.model"
    )
    encoder = base()["vision"]["model"]["encoder"]
    wider = [{**encoder[0], "channels": 24}, *encoder[1:]]
    space = {"vision.model.encoder": {"choices": [encoder, wider]}}
    assert of_runs("tune.space", space, {}, RUNS) == ""
