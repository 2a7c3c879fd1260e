"""Wiring of the export stage."""

from kedro.pipeline import Node, Pipeline

from wm_pipeline.pipelines.export.nodes import (
    export_int8,
    export_models,
    export_pruned,
    judge_exports,
)


def create_pipeline() -> Pipeline:
    """World model and controller -> ONNX files, and how the agent plays."""
    return Pipeline(
        [
            Node(
                export_models,
                inputs=[
                    "world_model",
                    "controller",
                    "params:environment",
                    "params:dream",
                ],
                outputs=[
                    "agent_onnx",
                    "frame_onnx",
                    "dream_onnx",
                    "decoder_onnx",
                    "controller_onnx",
                ],
                name="export_models",
            ),
            Node(
                export_int8,
                inputs=[
                    "world_model",
                    "controller",
                    "agent_onnx",
                    "params:environment",
                    "params:engine",
                    "params:export",
                ],
                outputs="agent_int8_onnx",
                name="export_int8",
            ),
            Node(
                export_pruned,
                inputs=[
                    "world_model",
                    "controller",
                    "params:environment",
                    "params:engine",
                    "params:export",
                ],
                outputs="agent_pruned_onnx",
                name="export_pruned",
            ),
            Node(
                judge_exports,
                inputs=[
                    "world_model",
                    "controller",
                    "agent_onnx",
                    "agent_int8_onnx",
                    "agent_pruned_onnx",
                    "params:environment",
                    "params:engine",
                    "params:export",
                ],
                outputs=["export_scores", "export_figure"],
                name="judge_exports",
                tags="timed",
            ),
        ],
        namespace="export",
        prefix_datasets_with_namespace=False,
    )
