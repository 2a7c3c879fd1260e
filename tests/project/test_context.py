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


def test_files_of_options_are_looked_for_from_the_project(
    bare_project: Path, tmp_path: Path
) -> None:
    """Those of conf/ready are docs/models; notebooks have a folder of their own."""
    with contextlib.chdir(tmp_path):
        with KedroSession.create(bare_project, env="ready") as session:
            options = session.load_context().params["import"]
        assert Path.cwd() == tmp_path
    assert (bare_project / options.world_model).is_file()
