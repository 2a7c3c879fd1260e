"""Tests of weights in other people's files."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file
from torch import nn

from wm_pipeline.common.errors import InputError
from wm_pipeline.importing.files import fill, named, read_arrays, read_lists

ARRAYS = {
    "weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "bias": np.ones(2, "f4"),
}


class Evil:
    """It writes a file when somebody unpickles it."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


def written(path: Path) -> Path:
    tensors = {name: torch.from_numpy(array) for name, array in ARRAYS.items()}
    if path.suffix == ".safetensors":
        save_file(ARRAYS, path)
    elif path.suffix == ".npz":
        np.savez(path, **ARRAYS)
    elif path.suffix == ".tar":
        torch.save({"state_dict": tensors, "epoch": 1}, path)
    else:
        torch.save(tensors, path)
    return path


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".tar", ".safetensors", ".npz"])
def test_arrays_come_back(tmp_path: Path, suffix: str) -> None:
    path = written(tmp_path / f"some{suffix}")
    found = read_arrays(path)
    assert found.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(found[name], array)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(InputError, match=f"some{suffix}: expected whole weights"):
        read_arrays(path)


@pytest.mark.parametrize("suffix", [".pt", ".npz", ".tar"])
def test_a_pickle_with_code_is_refused_and_nothing_runs(
    tmp_path: Path, suffix: str
) -> None:
    path, mark = tmp_path / f"evil{suffix}", tmp_path / "ran"
    if suffix == ".npz":
        np.savez(path, a=np.array([Evil(mark)], object))
    elif suffix == ".pt":
        torch.save({"state_dict": Evil(mark)}, path)
    else:
        path.write_bytes(pickle.dumps(Evil(mark)))
    with pytest.raises(InputError, match="nothing that would be executed"):
        read_arrays(path)
    assert not mark.exists()


@pytest.mark.parametrize("content", [[1.0], {"a": "b"}, {"a": [torch.ones(1)]}])
def test_what_is_no_state_dict_is_refused(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "odd.pt")
    with pytest.raises(InputError, match="expected tensors by name"):
        read_arrays(tmp_path / "odd.pt")


def test_an_unknown_ending_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"expected a file ending in \.pt"):
        read_arrays(tmp_path / "vae.h5")
    with pytest.raises(InputError, match="No such file"):
        read_arrays(tmp_path / "vae.pt")


@pytest.mark.parametrize("text", ["[", "{}", "[]", '[["a"]]', "[[1, [2]]]"])
def test_what_is_no_list_of_arrays_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "vae.json").write_text(text)
    with pytest.raises(InputError, match="expected a JSON of lists of numbers"):
        read_lists(tmp_path / "vae.json")


def test_all_that_does_not_fit_is_told() -> None:
    module = nn.Linear(3, 2)
    fill(module, ARRAYS, "right.pt")
    np.testing.assert_array_equal(module.weight.detach(), ARRAYS["weight"])
    wrong = {"weight": np.ones((3, 2)), "other": np.ones(1)}
    with pytest.raises(InputError) as said:
        fill(module, wrong, "wrong.pt")
    assert str(said.value) == (
        "wrong.pt: missing: bias (2,); surplus: other (1,); of another shape: weight "
        "(3, 2), expected (2, 3)"
    )
    endless = {**ARRAYS, "bias": np.array([1.0, np.nan])}
    with pytest.raises(InputError, match="not finite: bias"):
        fill(module, endless, "endless.pt")


@given(st.dictionaries(st.text(min_size=1), st.text(min_size=1), max_size=5))
def test_other_names_are_names_only(names: dict[str, str]) -> None:
    theirs = {name: np.full(1, n) for n, name in enumerate(set(names.values()))}
    found = named(theirs, names, "some.pt")
    assert found.keys() == names.keys()
    assert all(found[ours] is theirs[name] for ours, name in names.items())


def test_a_name_that_is_not_there_is_told() -> None:
    with pytest.raises(InputError, match=r"some\.pt: missing w; found bias, weight"):
        named(ARRAYS, {"weight": "w"}, "some.pt")
    assert named(ARRAYS, {"w": "weight"}, "some.pt").keys() == {"w", "bias"}
