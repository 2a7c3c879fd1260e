"""Films: one episode, real or dreamed, with what a viewer wants to know of each step."""

from dataclasses import dataclass

import numpy as np
import torch

from wm_pipeline.common.randomness import torch_stream
from wm_pipeline.environments.actions import Actions
from wm_pipeline.environments.dream import Decision, Dreams
from wm_pipeline.episodes.episode import Episode
from wm_pipeline.models.controller import Controller
from wm_pipeline.models.mdn_rnn import mixture_mean
from wm_pipeline.policies.controller_policy import ControllerPolicy, decision_noise

NOTHING = 40
"""The grey of a picture that is not there."""


@dataclass(frozen=True)
class Film:
    """An episode of T steps of M.

    Attributes:
        views: By name, what can be seen at each step, (T, 64, 64, 3) uint8 each.
        controls: The answers to it, (T, size) float32.
        returns: The rewards so far, that of the answer included, (T,) float64.
        steps: The steps of the environment so far, (T,) int64.
        terminated: Whether the game or the dream ended it, rather than a cap.
    """

    views: dict[str, np.ndarray]
    controls: np.ndarray
    returns: np.ndarray
    steps: np.ndarray
    terminated: bool

    def at_most(self, frames: int) -> "Film":
        """The whole episode in so many frames or fewer: every second step, every third
        and so on, the last one always."""
        total = len(self.steps)
        stride = -(-total // frames)
        kept = np.arange(total - 1, -1, -stride)[::-1]
        return Film(
            {name: view[kept] for name, view in self.views.items()},
            self.controls[kept],
            self.returns[kept],
            self.steps[kept],
            self.terminated,
        )


@torch.inference_mode()
def film_episode(episode: Episode, policy: ControllerPolicy) -> Film:
    """Show a real episode as the game, V and M have it.

    Args:
        episode: What the policy has played, with its frames.
        policy: Decides once more, as it did then.

    Returns:
        The film of its decisions. Its views are ``game``, the frame; ``seen``, what V
        decodes of the z that C saw; and ``expected``, what V decodes of the mean of M's
        prediction of that z, made a step before, which is grey at the first step.
    """
    assert episode.frames is not None
    vae, mdn_rnn = policy.world_model.vae, policy.world_model.mdn_rnn
    starts = np.arange(0, len(episode.rewards), mdn_rnn.frame_skip)
    steps = np.minimum(starts + mdn_rnn.frame_skip, len(episode.rewards))
    state, random = policy.begin(episode.seed)
    states = [state]
    for frame in episode.frames[starts]:
        _, (state,) = policy.act(frame[None], [state], [random])
        states.append(state)
    # The h before a decision, and the z it was made from.
    hidden = torch.cat([state.h for state in states[:-1]])
    latents = torch.cat([state.latent for state in states[1:]])
    predictions = mixture_mean(mdn_rnn.predict(hidden))
    expected = vae.decode_frames(predictions)
    expected[0] = NOTHING
    return Film(
        {
            "game": episode.frames[starts],
            "seen": vae.decode_frames(latents),
            "expected": expected,
        },
        episode.actions[starts],
        episode.rewards.cumsum(dtype=np.float64)[steps - 1],
        steps,
        episode.terminated,
    )


def film_dream(
    dreams: Dreams, choose: Decision, most_steps: int, random: np.random.Generator
) -> Film:
    """Dream one episode to its end.

    Args:
        dreams: A single dream.
        choose: Chooses the controls.
        most_steps: The cap, in steps of M.
        random: Draws the dream's beginning and its noise.

    Returns:
        The film; its view is ``dream``.
    """
    dreams.begin(np.ones(1, bool), random)
    frames: list[np.ndarray] = []
    controls, rewards = [], []
    terminated = False
    while not terminated and len(frames) < most_steps:
        frames.append(dreams.frames()[0])
        control = choose(dreams)
        reward, done = dreams.step(control, random)
        controls.append(control[0])
        rewards.append(float(reward[0]))
        terminated = bool(done[0])
    return Film(
        {"dream": np.stack(frames)},
        np.stack(controls),
        np.cumsum(rewards),
        (1 + np.arange(len(frames))) * dreams.world_model.mdn_rnn.frame_skip,
        terminated,
    )


def controller_in_dreams(
    controller: Controller, actions: Actions, seed: int
) -> Decision:
    """A controller as it acts in dreams.

    Args:
        controller: C.
        actions: The action mapping C was trained with.
        seed: Of the noise that its decisions need.
    """
    generator = torch_stream(seed, "controller in dreams")

    @torch.inference_mode()
    def choose(dreams: Dreams) -> np.ndarray:
        batch = len(dreams.latents)
        normal, gumbel = decision_noise(controller, actions, batch, generator)
        outputs = controller(dreams.latents, *dreams.state, normal)
        return actions.decide(outputs, gumbel).numpy()

    return choose
