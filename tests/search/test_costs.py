"""What a policy cost, from the logs that it left."""

import pandas as pd

from wm_pipeline.search.costs import cost_by_gradient, cost_of_training, log_of_search

FITNESS_LOG = pd.DataFrame(
    {
        "mean": [10.0, 30.0],
        "steps": [80, 240],
        "ask_seconds": [0.25, 0.25],
        "evaluate_seconds": [1.0, 2.0],
        "tell_seconds": [0.5, 0.5],
    }
)


def test_a_search_is_told_as_ppo_is() -> None:
    log = log_of_search(FITNESS_LOG, episodes=8)
    expected = {
        "steps": [80, 320],
        "episodes": [8, 8],
        "mean_return": [10.0, 30.0],
        "mean_steps": [10.0, 30.0],
        "seconds": [1.75, 4.5],
    }
    assert log.to_dict("list") == expected


def test_a_training_costs_what_it_has_come_to() -> None:
    log = log_of_search(FITNESS_LOG, episodes=8)
    dreamed = {"dream_steps": 320, "game_steps": 0, "seconds": 4.5}
    assert cost_of_training(log, "dream", frame_skip=4) == dreamed
    played = {"dream_steps": 0, "game_steps": 1280, "seconds": 4.5}
    assert cost_of_training(log, "real", frame_skip=4) == played


def test_rounds_cost_their_games_and_cs_training() -> None:
    scores = pd.DataFrame({"steps": [100, 200]})
    dreams = pd.DataFrame(
        {"steps": [32, 32], "dream_seconds": [1.0, 2.0], "update_seconds": [0.5, 0.5]}
    )
    games = pd.DataFrame(
        {"steps": [1000], "game_seconds": [8.0], "update_seconds": [0.25]}
    )
    expected = {"dream_steps": 64, "game_steps": 1300, "seconds": 12.25}
    assert cost_by_gradient([scores, dreams, games]) == expected
