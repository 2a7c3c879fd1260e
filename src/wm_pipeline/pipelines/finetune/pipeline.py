"""Wiring of the finetune stage."""

from kedro.pipeline import Node, Pipeline

from wm_pipeline.pipelines.finetune.nodes import finetune_controller, select_finetuned


def create_pipeline(rounds: int = 0) -> Pipeline:
    """World model, and C where rounds left it -> C.

    Args:
        rounds: How many C came of; 0 begins with a new one.
    """
    left = [f"round_{rounds}_explorer", f"round_{rounds}_critic"] if rounds else []
    return Pipeline(
        [
            Node(
                finetune_controller,
                inputs=[
                    "world_model",
                    "params:environment",
                    "params:engine",
                    "params:finetune",
                    "earlier_finetuning",
                    *left,
                ],
                outputs=["finetuning_log", "finetuning"],
                name="finetune_controller",
                tags="timed",
            ),
            Node(
                select_finetuned,
                inputs="finetuning",
                outputs=["finetuned_controller", "finetuning_figure"],
                name="select_finetuned",
            ),
        ],
        namespace="finetune",
        prefix_datasets_with_namespace=False,
    )
