"""Wiring of the rounds, each in a namespace of its own."""

from kedro.pipeline import Node, Pipeline

from wm_pipeline.pipelines.rounds.nodes import (
    begin_practice,
    play_round,
    practise,
    score_rounds,
    train_memory_on,
)


def create_pipeline(count: int = 1) -> Pipeline:
    """World model -> C; then as often as asked for: C -> games -> M -> C.

    Args:
        count: How many rounds there are, 1 or more.
    """
    game = ["params:environment"]
    dream = [*game, "params:dream", "params:rounds"]
    rounds = Pipeline(
        [
            Node(
                begin_practice,
                inputs=["world_model", "latents", *dream],
                outputs=_outputs(0),
                name="begin_practice",
            )
        ],
        namespace="rounds",
        prefix_datasets_with_namespace=False,
    )
    for number in range(1, count + 1):
        before, here = f"round_{number - 1}", f"round_{number}"
        world_model = "world_model" if number == 1 else f"{before}_world_model"
        earlier = [f"round_{each}_latents" for each in range(1, number)]
        played = [*earlier, f"{here}_latents"]
        rounds += Pipeline(
            [
                Node(
                    play_round,
                    inputs=[
                        world_model,
                        f"{before}_explorer",
                        *game,
                        "params:engine",
                        "params:rounds",
                        *earlier,
                    ],
                    outputs=f"{here}_latents",
                    name=f"play_{here}",
                ),
                Node(
                    train_memory_on,
                    inputs=[
                        world_model,
                        "latents",
                        "params:rounds",
                        *played,
                    ],
                    outputs=[f"{here}_world_model", f"{here}_mdn_rnn_history"],
                    name=f"train_memory_in_{here}",
                ),
                Node(
                    practise,
                    inputs=[
                        f"{here}_world_model",
                        "latents",
                        f"{before}_explorer",
                        f"{before}_critic",
                        *dream,
                        *played,
                    ],
                    outputs=_outputs(number),
                    name=f"practise_in_{here}",
                ),
            ],
            namespace=f"rounds.{here}",
            prefix_datasets_with_namespace=False,
        )
    return rounds + Pipeline(
        [
            Node(
                score_rounds,
                inputs=[f"round_{number}_latents" for number in range(1, count + 1)],
                outputs=["round_scores", "round_scores_figure"],
                name="score_rounds",
            )
        ],
        namespace="rounds",
        prefix_datasets_with_namespace=False,
    )


def _outputs(number: int) -> list[str]:
    """C of a round, and the log of its training."""
    return [
        f"round_{number}_{name}"
        for name in ("explorer", "critic", "controller", "practice_log")
    ]
