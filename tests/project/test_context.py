"""Which stages a run is."""

import contextlib
from pathlib import Path

from kedro.framework.hooks.manager import _NullPluginManager
from kedro.framework.project import pipelines
from kedro.framework.session import KedroSession

from tests.kedro_runs import copy_project


def stages(project: Path, env: str) -> set[str]:
    """The stages of ``__default__``, as one who leaves hooks out finds them."""
    with contextlib.chdir(project), KedroSession.create(project, env=env) as session:
        session._hook_manager = _NullPluginManager()
        session.load_context()
        return {
            tag for node in pipelines["__default__"].nodes for tag in [node.namespace]
        }


def test_the_conf_environment_says_which_stages_a_run_is(tmp_path: Path) -> None:
    project = copy_project(tmp_path)
    mock, base = stages(project, "mock"), stages(project, "base")
    assert mock == {"mock", "blind", "controller", "evaluation", "pictures"}
    assert base >= {"collection", "vision", "memory", "dream", "controller"}
    assert "mock" not in base
