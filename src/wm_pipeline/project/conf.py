"""How the conf files are read: what refers to an option sees what a run is given."""

import contextlib
import copy
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kedro.config import OmegaConfigLoader
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import MarkedYAMLError

from wm_pipeline.common.errors import InputError
from wm_pipeline.common.options import did_you_mean
from wm_pipeline.project.stages import known_stages

ASKED = Path("--params")
"""Where the parameters of the command line stand, as it were."""

GLOBALS = ("task", "game", "stages")
REFERENCE = re.compile(r"\$\{(?:oc\.select:)?([a-z][\w.]*)(?:, *null)?\}")
"""A value that is another option's."""

TASK = re.compile(r"(?!\.)[A-Za-z0-9._-]{1,100}")
"""A task is a folder's name in every path of the catalog."""


class ConfLoader(OmegaConfigLoader):
    """Merges an environment's parameters over base's before they are resolved.

    Kedro resolves each alone: ``${seed}`` in base then never sees the seed of an
    environment's file, which would stand in the record without having been used.
    And reads the files once a session: Kedro asks for the parameters four times, and it
    took most of a short run's time.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """As Kedro makes it."""
        self._found: dict[str, dict[str, Any]] = {}
        self._references: dict[str, str] = {}
        super().__init__(*args, **kwargs)

    def references(self) -> dict[str, str]:
        """The parameters that take another's value, and that other one, by dotted names.

        Those that ``--params`` gives a value of their own are none.
        """
        self["parameters"]
        return dict(self._references)

    def __getitem__(self, key: str) -> dict[str, Any]:
        """A group of the conf files; a copy, to be changed."""
        if key in self:  # it was set by hand
            return super().__getitem__(key)
        if key not in self._found:
            self._found[key] = super().__getitem__(key)
        return copy.deepcopy(self._found[key])

    def _resolve_from_raw_config(
        self,
        key: str,
        base_configs: dict[Path, DictConfig],
        env_configs: dict[Path, DictConfig],
        *others: Any,
    ) -> dict[str, Any]:
        if key == "parameters" and base_configs:
            together: Any = OmegaConf.unsafe_merge(*base_configs.values())
            for path, given in [*env_configs.items(), *self._asked()]:
                _check_shape(path, together, given)
                if path != ASKED:  # Kedro merges these itself
                    together = OmegaConf.unsafe_merge(together, given)
            base_configs, env_configs = {Path(): together}, {}
            (_, asked), *_ = self._asked()
            self._references = dict(
                _references(OmegaConf.unsafe_merge(copy.deepcopy(together), asked))
            )
        return super()._resolve_from_raw_config(key, base_configs, env_configs, *others)

    def _read_dir_configs(self, conf_path: str, *others: Any) -> dict[Path, DictConfig]:
        try:
            return super()._read_dir_configs(conf_path, *others)
        except UnicodeDecodeError as error:
            raise InputError(
                f"{_broken(conf_path, error)}: expected a file of UTF-8; {error}"
            ) from error
        except MarkedYAMLError as error:
            if error.problem is None:  # Kedro has named the file
                raise
            raise InputError(
                f"{_broken(conf_path, error)}: expected YAML; {error.problem}"
            ) from error

    def _check_duplicates(self, key: str, config_per_file: dict[Path, Any]) -> None:
        for path, config in config_per_file.items():
            if not isinstance(config, DictConfig):
                raise InputError(f"{path}: expected names with values, found a list")
        super()._check_duplicates(key, config_per_file)

    def _asked(self) -> list[tuple[Path, DictConfig]]:
        return [(ASKED, OmegaConf.create(self.runtime_params or {}))]


def _broken(folder: str, error: Exception) -> Path:
    """The first file in a folder whose reading ends in such an error, or the folder."""
    for path in sorted(Path(folder).rglob("*")):
        try:
            OmegaConf.load(path)
        except Exception as found:  # noqa: BLE001  Kedro reads some of them only
            if type(found) is type(error):
                return path
    return Path(folder)


def _check_shape(path: Path, known: Any, given: Any, name: str = "") -> None:
    """Refuse a list or nothing in place of a group of options, or a group for a list.

    OmegaConf would, too, but without saying where. Within a group nothing may be a value.
    """
    for key in given:
        theirs = None
        # It may refer to a later file.
        with contextlib.suppress(OmegaConfBaseException):
            theirs = OmegaConf.select(known, str(key))
        ours, here = given._get_node(key), f"{name}{key!s}"  # noqa: SLF001  as written
        pair = (type(theirs), type(ours))
        if pair in ((DictConfig, ListConfig), (ListConfig, DictConfig)):
            kinds = {DictConfig: "names with values", ListConfig: "a list"}
            raise InputError(
                f"{path}: {here}: expected {kinds[pair[0]]}, found {kinds[pair[1]]}"
            )
        is_group = isinstance(known._get_node(key), DictConfig)  # noqa: SLF001  as written
        if not name and is_group and ours._is_none():  # noqa: SLF001
            raise InputError(f"{path}: {here}: expected names with values, found none")
        if pair == (DictConfig, DictConfig) and ours is not None:
            _check_shape(path, theirs, ours, f"{here}.")


def _references(config: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Of values that are nothing but another one: both names."""
    for key in config:
        node, here = config._get_node(key), f"{name}{key!s}"  # noqa: SLF001  as written
        if isinstance(node, DictConfig) and not node._is_interpolation():  # noqa: SLF001
            yield from _references(node, f"{here}.")
        elif found := REFERENCE.fullmatch(str(node._value())):  # noqa: SLF001
            yield here, found[1]


def check_globals(found: dict[str, Any]) -> list[str]:
    """The stages that globals.yml names.

    Args:
        found: What it says.

    Raises:
        InputError: It says something else than it may.
    """
    for name in found:
        hint = did_you_mean(str(name), GLOBALS)
        # Others may be for a catalog of one's own.
        if name not in GLOBALS and hint:
            raise InputError(f"globals.yml: {name} is nothing known{hint}")
    task, stages = found.get("task"), found.get("stages")
    if not isinstance(task, str | int) or not TASK.fullmatch(str(task)):
        raise InputError(
            "globals.yml: task: expected a name of letters, digits and - _ . that does "
            f"not begin with a dot, found {task!r}"
        )
    if not isinstance(stages, list) or not stages:
        raise InputError(
            "globals.yml: stages: expected a list of one or more out of "
            f"{', '.join(known_stages())}, found {stages!r}"
        )
    if unknown := [stage for stage in stages if stage not in known_stages()]:
        raise InputError(
            f"globals.yml: expected stages out of {', '.join(known_stages())}, "
            f"found {', '.join(map(str, unknown))}"
        )
    return stages
