"""Tests of an episode's frames made latents."""

import numpy as np
import torch

from wm_pipeline.episodes.encoding import encoded
from wm_pipeline.models.vae import ConvVAE


def test_latents_take_the_place_of_frames(vae: ConvVAE) -> None:
    frames = np.random.default_rng(1).integers(0, 256, (5, 64, 64, 3), np.uint8)
    steps = {"frame": frames, "reward": np.arange(5, dtype=np.float32)}
    found = encoded(steps, vae)
    assert set(found) == {"reward", "mean", "log_variance"}
    assert "frame" in steps, "what was given is left as it was"
    means, log_variances = vae.encode_frames(frames)
    for name, expected in (("mean", means), ("log_variance", log_variances)):
        assert found[name].dtype == np.float16
        torch.testing.assert_close(
            torch.from_numpy(found[name].astype(np.float32)),
            expected.float(),
            atol=2e-3,
            rtol=2e-3,
        )


def test_a_frame_may_stand_for_several_steps(vae: ConvVAE) -> None:
    frames = np.random.default_rng(1).integers(0, 256, (3, 64, 64, 3), np.uint8)
    reward = np.arange(7, dtype=np.float32)
    found = encoded({"frame": frames, "reward": reward}, vae, hold=3)
    alone = encoded({"frame": frames, "reward": reward[:3]}, vae)
    for name in ("mean", "log_variance"):
        np.testing.assert_array_equal(found[name], alone[name][[0, 0, 0, 1, 1, 1, 2]])
