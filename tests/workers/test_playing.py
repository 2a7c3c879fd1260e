"""Tests of real games in real worker processes, which are really killed."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.playing import play_alone
from wm_pipeline.common.errors import InputError
from wm_pipeline.environments.real import EnvironmentOptions, RealEnv
from wm_pipeline.episodes.episode import Episode
from wm_pipeline.models.controller import Controller, ControllerOptions
from wm_pipeline.models.world_model import WorldModel
from wm_pipeline.policies.controller_policy import ControllerPolicy
from wm_pipeline.policies.random_policy import RandomPolicy
from wm_pipeline.policies.scripted_policy import CyclePolicy
from wm_pipeline.workers import playing
from wm_pipeline.workers.engine import EngineOptions
from wm_pipeline.workers.playing import (
    AHEAD,
    GAMES_PER_TASK,
    SIDE_BY_SIDE,
    Player,
    play_episodes,
    shares,
)

SEEDS = [11, 5, 8, 3]


class Assassin(RandomPolicy):
    """Plays at random, and in the middle of one episode kills somebody.

    Args:
        doom: The game's options.
        seed: The fatal episode.
        victim: ``worker`` or ``game``, each a process.
        mark: A file made at the deed, which is done once; None does it every time.
    """

    def __init__(
        self, doom: EnvironmentOptions, seed: int, victim: str, mark: Path | None
    ) -> None:
        super().__init__(doom.actions, (1, 5))
        self.fatal_seed, self.victim, self.mark = seed, victim, mark

    def begin(self, seed: int) -> tuple[Any, Any]:
        held, random = super().begin(seed)
        return (seed, 0, held), random

    def act(
        self, frames: np.ndarray | None, states: Sequence[Any], randoms: Sequence[Any]
    ) -> tuple[np.ndarray, list[Any]]:
        if (self.fatal_seed, 20) in [(seed, step) for seed, step, _ in states]:
            self.kill()
        controls, after = super().act(frames, [held for *_, held in states], randoms)
        return controls, [
            (seed, step + 1, held)
            for (seed, step, _), held in zip(states, after, strict=True)
        ]

    def kill(self) -> None:
        if self.mark is not None:
            if self.mark.exists():
                return
            self.mark.touch()
        if self.victim == "worker":
            os.kill(os.getpid(), signal.SIGKILL)
        game = next(p for p in psutil.Process().children() if "vizdoom" in p.name())
        game.kill()
        game.wait()


class Refuser(RandomPolicy):
    """Plays at random, but refuses to begin one episode."""

    def begin(self, seed: int) -> tuple[Any, Any]:
        if seed == SEEDS[1]:
            raise ArithmeticError("I would rather not")
        return super().begin(seed)


class Brightness:
    """A policy of somebody else's: a plain class that follows the protocol.

    It goes left in the dark and right in the light, of which it draws the border; every
    third step it stays for two steps.
    """

    sees = True
    hold = 2

    def begin(self, seed: int) -> tuple[int, np.random.Generator]:
        return 0, np.random.default_rng(seed)

    def act(
        self,
        frames: np.ndarray | None,
        states: Sequence[int],
        randoms: Sequence[np.random.Generator],
    ) -> tuple[np.ndarray, list[int]]:
        assert frames is not None
        assert frames.shape[1:] == (64, 64, 3)
        borders = [random.uniform(40, 80) for random in randoms]
        controls = np.sign(frames.mean((1, 2, 3)) - borders)
        controls[np.array(states) % 3 == 2] = 0
        return controls[:, None], [state + 1 for state in states]


class Shapeless(Brightness):
    """Forgets that controls are vectors."""

    def act(self, *seen: Any) -> tuple[np.ndarray, list[int]]:
        controls, states = super().act(*seen)
        return controls[:, 0], states


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """All of a test's processes work below ``tmp_path``, by which they are known."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


@pytest.fixture(autouse=True)
def _nothing_left_behind(tmp_path: Path, _in_a_folder_of_its_own: None):
    """Every test's games and workers are gone after it, and so are their files."""
    yield
    left = [process for process in psutil.process_iter() if works_in(process, tmp_path)]
    _, alive = psutil.wait_procs(left, timeout=60)
    alive = [p for p in alive if works_in(p, tmp_path)]
    names = [p.name() for p in alive]
    for process in alive:
        process.kill()
    assert names == []
    assert list(tmp_path.glob("wm_workers_*")) == []


@pytest.fixture(autouse=True)
def _nothing_hangs(tmp_path: Path, _nothing_left_behind: None):
    """A run that waits for a dead process is set free after a while, and fails."""
    freed: list[str] = []
    over = threading.Event()

    def free() -> None:
        while not over.wait(timeout=300):
            for process in psutil.process_iter():
                if works_in(process, tmp_path):
                    freed.append(process.name())
                    process.kill()

    watch = threading.Thread(target=free, daemon=True)
    watch.start()
    yield
    over.set()
    watch.join()
    assert freed == []


def works_in(process: psutil.Process, folder: Path) -> bool:
    try:
        mine = process.pid == os.getpid()
        return not mine and Path(process.cwd()).is_relative_to(folder)
    except (psutil.Error, OSError):
        return False


@pytest.fixture
def short(doom: EnvironmentOptions) -> EnvironmentOptions:
    return doom.model_copy(update={"max_steps": 60})


@pytest.fixture
def policy(short: EnvironmentOptions) -> RandomPolicy:
    return RandomPolicy(short.actions, (1, 5))


@pytest.fixture
def undisturbed(short: EnvironmentOptions, policy: RandomPolicy) -> list[Episode]:
    """The episodes as they are in one process, in which nobody dies."""
    return play_alone(short, policy, SEEDS)


def play(
    environment: EnvironmentOptions, policy: RandomPolicy, workers: int = 2
) -> Iterator[Episode]:
    games = [("player", seed) for seed in SEEDS]
    return play_episodes(
        environment, {"player": policy}, games, EngineOptions(workers=workers), "all"
    )


def assert_equal(played: list[Episode], expected: list[Episode]) -> None:
    assert [episode.seed for episode in played] == [e.seed for e in expected]
    for one, other in zip(played, expected, strict=True):
        np.testing.assert_array_equal(one.frames, other.frames)
        np.testing.assert_array_equal(one.actions, other.actions)
        np.testing.assert_array_equal(one.rewards, other.rewards)
        assert one.terminated == other.terminated


def test_an_episode_may_end_at_its_cap(undisturbed: list[Episode]):
    for episode in undisturbed:
        assert len(episode.rewards) == 60
        assert episode.actions.dtype == np.float32
        assert episode.rewards.dtype == np.float64
        assert not episode.terminated


@pytest.mark.parametrize("terminated", [True, False])
def test_the_columns_of_an_episode(terminated: bool):
    frames = np.arange(3 * 64 * 64 * 3, dtype=np.uint8).reshape(3, 64, 64, 3)
    actions = np.array([[-1], [0], [1]], np.float32)
    rewards = np.array([1, 2, 3], np.float32)
    steps = Episode(2**40, frames, actions, rewards, terminated).steps(7)
    assert steps["episode"].tolist() == [7] * 3
    assert steps["seed"].tolist() == [2**40] * 3
    np.testing.assert_array_equal(steps["frame"], frames)
    np.testing.assert_array_equal(steps["action"], actions)
    np.testing.assert_array_equal(steps["reward"], rewards)
    assert steps["terminated"].tolist() == [False, False, terminated]
    assert steps["truncated"].tolist() == [False, False, not terminated]


def test_workers_play_what_one_process_plays_in_order(
    short: EnvironmentOptions, policy: RandomPolicy, undisturbed: list[Episode]
):
    assert len({episode.frames.tobytes() for episode in undisturbed}) == len(SEEDS)
    assert_equal(list(play(short, policy)), undisturbed)


def test_policies_share_the_workers_and_frames_need_not_be_kept(
    short: EnvironmentOptions, policy: RandomPolicy, undisturbed: list[Episode]
):
    policies = {"quick": policy, "slow": RandomPolicy(short.actions, (30, 30))}
    games = [("quick", SEEDS[0]), ("slow", SEEDS[0]), ("quick", SEEDS[1])]
    first, slow, second = play_episodes(
        short, policies, games, EngineOptions(workers=1), "none"
    )
    np.testing.assert_array_equal(first.actions, undisturbed[0].actions)
    np.testing.assert_array_equal(second.actions, undisturbed[1].actions)
    assert len(np.flatnonzero(np.diff(slow.actions[:, 0]))) <= 1
    assert first.frames is None


@pytest.mark.parametrize(("victim", "workers"), [("worker", 2), ("game", 1)])
def test_a_killed_process_costs_no_episode(
    short: EnvironmentOptions,
    undisturbed: list[Episode],
    tmp_path: Path,
    victim: str,
    workers: int,
):
    mark = tmp_path / "done"
    assassin = Assassin(short, SEEDS[1], victim, mark)
    assert_equal(list(play(short, assassin, workers)), undisturbed)
    assert mark.exists()


@pytest.mark.parametrize("victim", ["worker", "game"])
def test_an_episode_that_always_dies_is_an_error(
    short: EnvironmentOptions, victim: str
):
    played = play(short, Assassin(short, SEEDS[1], victim, None), workers=1)
    assert next(played).seed == SEEDS[0]
    with pytest.raises(RuntimeError, match=rf"seed {SEEDS[1]}\b"):
        next(played)


def test_an_episode_that_always_fails_is_an_error_naming_its_seed(
    short: EnvironmentOptions,
):
    with pytest.raises(
        RuntimeError,
        match=rf"seed {SEEDS[1]} failed 3 times: ArithmeticError: I would rather not",
    ):
        list(play(short, Refuser(short.actions, (1, 5)), workers=1))


def test_a_consumer_may_leave_early(
    short: EnvironmentOptions, policy: RandomPolicy, tmp_path: Path
):
    played = play(short, policy, workers=1)
    next(played)
    running = [p.name() for p in psutil.process_iter() if works_in(p, tmp_path)]
    assert sum("vizdoom" in name for name in running) >= 1
    played.close()


class KillingController(ControllerPolicy):
    """Plays well, but in the middle of one episode kills one of the games, once.

    Args:
        mark: A file made at the deed.
    """

    mark: Path

    def act(self, *seen: Any) -> tuple[np.ndarray, list[Any]]:
        """The deed is done when it decides for the second time."""
        _, states, _ = seen
        if any(state.h.any() for state in states) and not self.mark.exists():
            self.mark.touch()
            games = [p for p in psutil.Process().children() if "vizdoom" in p.name()]
            games[-1].kill()
            games[-1].wait()
        return super().act(*seen)


def test_games_side_by_side_are_what_they_are_alone(
    doom: EnvironmentOptions, world_model: WorldModel, tmp_path: Path
) -> None:
    """More episodes than places and tasks, of several lengths; also if one is killed."""
    options = ControllerOptions(
        inputs="zh",
        hidden_sizes=(),
        activation="tanh",
        bias=True,
        policy="deterministic",
    )
    controller = Controller(options, 4, 8, 1)
    random = torch.Generator().manual_seed(1)
    controller.set_parameters(torch.randn(controller.size, generator=random))
    policy = KillingController(world_model, controller, doom.actions, True)
    policy.mark = tmp_path / "done"
    policy.mark.touch()
    seeds = list(range(GAMES_PER_TASK + 3))
    alone = play_alone(doom, policy, seeds)
    assert len({len(episode.rewards) for episode in alone}) > 1
    assert any(len(np.unique(episode.actions)) > 1 for episode in alone)
    games = [("controller", seed) for seed in seeds]
    for killed in (False, True):
        if killed:
            policy.mark.unlink()
        played = play_episodes(
            doom, {"controller": policy}, games, EngineOptions(workers=2), "all"
        )
        assert_equal(list(played), alone)
        assert policy.mark.exists()


@given(games=st.integers(0, 300), workers=st.integers(1, 40), later=st.integers(0, 300))
def test_no_worker_plays_on_for_long_when_the_others_are_done(
    games: int, workers: int, later: int
) -> None:
    seeds = list(range(100, 100 + games))
    tasks = list(shares(seeds, workers, later))
    assert [seed for some in tasks for seed in some] == seeds, "each once, in order"
    sizes = [len(some) for some in tasks]
    assert sizes == sorted(sizes, reverse=True)
    left = games + later
    for size in sizes:
        assert 1 <= size <= GAMES_PER_TASK
        assert size <= max(SIDE_BY_SIDE, left / (2 * workers)), "half of its share"
        left -= size
        assert size >= SIDE_BY_SIDE or left == later, "several side by side"


def test_without_frames_games_are_the_same(
    doom: EnvironmentOptions,
    world_model: WorldModel,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Steps in which nobody looks are taken together."""
    controller = Controller(ControllerOptions(inputs="zh"), 4, 8, 1)
    random = torch.Generator().manual_seed(1)
    controller.set_parameters(torch.randn(controller.size, generator=random))
    pendulum = np.array([[[-1], [1]]], np.float32)
    policies = {
        "random": RandomPolicy(doom.actions, (1, 5)),
        "blind": CyclePolicy(pendulum, (30, 30)),
        "constant": CyclePolicy(pendulum[:, 1:], (1, 1)),
        "controller": ControllerPolicy(world_model, controller, doom.actions, True),
    }
    asked: list[int] = []
    taken = RealEnv.hold
    monkeypatch.setattr(
        RealEnv, "hold", lambda *given: asked.append(given[-1]) or taken(*given)
    )
    longest = {}
    with closing(Player(doom, policies)) as player:
        for name, policy in policies.items():
            asked.clear()
            played = player.play(name, SEEDS, frames="none")
            longest[name] = max(asked)
            for found, alone in zip(
                played, play_alone(doom, policy, SEEDS), strict=True
            ):
                np.testing.assert_array_equal(found.actions, alone.actions)
                assert found.rewards.sum() == alone.rewards.sum()
                assert found.terminated == alone.terminated
    assert longest.pop("random") > 1
    assert longest == {"blind": 30, "constant": AHEAD, "controller": 2}


@pytest.mark.parametrize("every", [1, 3, 4])
def test_each_frame_behind_so_many_steps_is_kept(
    doom: EnvironmentOptions, world_model: WorldModel, every: int
) -> None:
    controller = Controller(ControllerOptions(inputs="zh"), 4, 8, 1)
    random = torch.Generator().manual_seed(1)
    controller.set_parameters(torch.randn(controller.size, generator=random))
    policies = {
        "random": RandomPolicy(doom.actions, (1, 5)),
        "blind": CyclePolicy(np.array([[[-1], [1]]], np.float32), (30, 30)),
        "controller": ControllerPolicy(world_model, controller, doom.actions, True),
    }
    with closing(Player(doom, policies)) as player:
        for name, policy in policies.items():
            played = player.play(name, SEEDS[:2], frames=every)
            for found, alone in zip(
                played, play_alone(doom, policy, SEEDS[:2]), strict=True
            ):
                assert alone.frames is not None
                np.testing.assert_array_equal(found.frames, alone.frames[::every])
                np.testing.assert_array_equal(found.actions, alone.actions)


def test_a_policy_of_somebody_elses_plays_in_the_workers(doom: EnvironmentOptions):
    """Each control is held as it asks for, and answers the frame it was shown."""
    policy, seeds = Brightness(), [7, 3, 9, 1, 4, 6]
    alone = play_alone(doom, policy, seeds)
    games = [("brightness", seed) for seed in seeds]
    played = list(
        play_episodes(
            doom, {"brightness": policy}, games, EngineOptions(workers=2), "all"
        )
    )
    assert_equal(played, alone)
    for episode in played:
        state, random = policy.begin(episode.seed)
        states, expected = [state], []
        assert episode.frames is not None
        for frame in episode.frames[::2]:
            (control,), states = policy.act(frame[None], states, [random])
            expected += [control] * 2
        np.testing.assert_array_equal(episode.actions, expected[: len(episode.actions)])
        assert episode.actions.dtype == np.float32
        assert len(np.unique(episode.actions)) > 1


def test_controls_of_another_shape_are_refused(short: EnvironmentOptions):
    games = [("shapeless", 1)]
    with pytest.raises(
        ValueError, match=r"Shapeless\.act: expected .*\(1, 1\), found \(1,\)"
    ):
        next(
            play_episodes(
                short,
                {"shapeless": Shapeless()},
                games,
                EngineOptions(workers=1),
                "none",
            )
        )


def test_only_frames_that_somebody_needs_are_made(
    short: EnvironmentOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    frame = RealEnv.frame
    monkeypatch.setattr(RealEnv, "frame", lambda env: made.append(1) or frame(env))
    policies = {"random": RandomPolicy(short.actions, (1, 5)), "seeing": Brightness()}
    with closing(Player(short, policies)) as player:
        player.play("random", [5], frames="none")
        assert len(made) <= 1  # the reset's
        made.clear()
        (seen,) = player.play("seeing", [5], frames="none")
        assert len(seen.rewards) == 60
        assert len(made) == 1 + 30
        made.clear()
        player.play("random", [5], frames="all")
        assert len(made) == 1 + 60


def test_a_wrong_environment_is_the_inputs_fault_and_not_tried_again(
    short: EnvironmentOptions, policy: RandomPolicy
):
    wrong = short.model_copy(update={"frame_key": "picture"})
    with pytest.raises(InputError, match=r"environment\.frame_key") as raised:
        next(play(wrong, policy))
    assert "times" not in str(raised.value)
    # Where it was raised is of no use to its reader.
    assert not hasattr(raised.value, "__notes__")


def test_workers_and_games_end_with_a_killed_parent(
    doom: EnvironmentOptions, tmp_path: Path
) -> None:
    script = f"""
from wm_pipeline.environments.real import EnvironmentOptions
from wm_pipeline.policies.random_policy import RandomPolicy
from wm_pipeline.workers import playing
from wm_pipeline.workers.engine import EngineOptions
from wm_pipeline.workers.playing import play_episodes

doom = EnvironmentOptions.model_validate_json({doom.model_dump_json()!r})
policies = {{"random": RandomPolicy(doom.actions, (1, 5))}}
games = [("random", seed) for seed in range(100_000)]
for _ in play_episodes(doom, policies, games, EngineOptions(workers=2), "none"):
    pass
"""
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    parent = subprocess.Popen(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment
    )
    try:
        deadline = time.monotonic() + 200
        descendants: list[psutil.Process] = []
        while sum(map(is_a_game, descendants)) < 2:
            assert time.monotonic() < deadline, "two games did not start"
            time.sleep(0.2)
            descendants = psutil.Process(parent.pid).children(recursive=True)
    finally:
        parent.kill()
        parent.wait()
    _, alive = psutil.wait_procs(descendants, timeout=60)
    assert alive == []
    for folder in tmp_path.glob("wm_workers_*"):  # a killed parent cannot tidy up
        shutil.rmtree(folder)


def is_a_game(process: psutil.Process) -> bool:
    try:
        return "vizdoom" in process.name()
    except psutil.NoSuchProcess:  # it has ended since it was found
        return False


BALANCE = EnvironmentOptions.model_validate(
    {
        "id": "wm_pipeline.environments:wm_pipeline/Balance-v0",
        "max_steps": 20,
        "actions": {"kind": "threshold", "low": 0, "middle": 1, "high": 2},
    }
)


def test_an_episode_whose_game_could_not_be_made_is_played_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    policy = RandomPolicy(BALANCE.actions, (1, 5))
    made: list[int] = []

    class Scarce(RealEnv):
        """There is no room for it at first."""

        def __init__(self, *given: Any) -> None:
            made.append(1)
            if len(made) == 1:
                raise OSError("no space left on the device")
            super().__init__(*given)

    expected = play_alone(BALANCE, policy, SEEDS)
    monkeypatch.setattr(playing, "RealEnv", Scarce)
    with closing(Player(BALANCE, {"random": policy})) as player:
        assert_equal(player.play("random", SEEDS, "all"), expected)
    assert "A game failed (OSError: no space left" in caplog.text
    assert len(made) == 1 + SIDE_BY_SIDE


def test_what_a_game_says_as_it_leaves_is_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Leaving(RealEnv):
        """It calls ``sys.exit``, as a game without its files may."""

        def reset(self, **_: Any) -> Any:
            sys.exit("no ROM in /roms")

    monkeypatch.setattr(playing, "RealEnv", Leaving)
    policy = RandomPolicy(BALANCE.actions, (1, 5))
    with (
        closing(Player(BALANCE, {"random": policy})) as player,
        pytest.raises(
            RuntimeError, match="failed 3 times: SystemExit: no ROM in /roms"
        ),
    ):
        player.play("random", SEEDS[:1], "all")
    assert "A game failed (SystemExit: no ROM in /roms)" in caplog.text


def test_a_return_does_not_depend_on_which_steps_are_taken_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hold = RealEnv.hold

    def costly(env: RealEnv, action: np.ndarray, steps: int) -> Any:
        taken, _, *rest = hold(env, action, steps)
        return taken, sum([-0.1] * taken), *rest

    monkeypatch.setattr(RealEnv, "hold", costly)
    for least in (1, 3, 7):
        for frames in ("none", "all"):
            policy = RandomPolicy(BALANCE.actions, (least, least))
            with closing(Player(BALANCE, {"random": policy})) as player:
                for episode in player.play("random", SEEDS, frames):
                    steps = len(episode.rewards)
                    assert episode.episode_return == float(np.float32(-0.1 * steps))


def test_a_game_that_cannot_be_closed_harms_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    policy = RandomPolicy(BALANCE.actions, (1, 5))
    closed: list[RealEnv] = []

    class Broken(RealEnv):
        """It dies once, in the middle of an episode."""

        died = False

        def hold(self, *given: Any) -> Any:
            if not Broken.died:
                Broken.died = True
                raise ConnectionError("the game has gone")
            return super().hold(*given)

        def close(self) -> None:
            closed.append(self)
            raise BrokenPipeError("nobody is there to be told")

    expected = play_alone(BALANCE, policy, SEEDS)
    monkeypatch.setattr(playing, "RealEnv", Broken)
    with closing(Player(BALANCE, {"random": policy})) as player:
        assert_equal(player.play("random", SEEDS, "all"), expected)
        assert len(closed) == 1
    assert len(set(closed)) == 1 + SIDE_BY_SIDE
