"""Tests of weights in other people's files."""

import contextlib
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_tensors
from torch import nn

from wm_pipeline.common.errors import InputError
from wm_pipeline.importing.files import fill, named, read_arrays, read_lists, sizes

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


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    suffix=st.sampled_from([".pt", ".tar", ".safetensors", ".npz"]),
    where=st.floats(0, 1, exclude_max=True),
    content=st.binary(max_size=20),
    cut=st.booleans(),
)
def test_a_damaged_file_is_refused_or_read(
    tmp_path: Path, suffix: str, where: float, content: bytes, cut: bool
) -> None:
    path = tmp_path / f"some{suffix}"
    whole = written(path).read_bytes()
    first = int(where * len(whole))
    rest = b"" if cut else whole[first + len(content) :]
    path.write_bytes(whole[:first] + content + rest)
    with contextlib.suppress(InputError):
        assert all(array.dtype.kind in "fiu" for array in read_arrays(path).values())


def test_torch_says_how_to_execute_a_file_but_we_do_not(tmp_path: Path) -> None:
    torch.save({"state_dict": Evil(tmp_path / "ran")}, tmp_path / "evil.pt")
    with pytest.raises(InputError) as said:
        read_arrays(tmp_path / "evil.pt")
    assert "found otherwise: a pickle that asks for" in str(said.value)
    (tmp_path / "text.tar").write_text("weights")
    with pytest.raises(InputError, match="otherwise: another format"):
        read_arrays(tmp_path / "text.tar")


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("module", ["numpy.core", "numpy._core"])
def test_a_number_of_numpys_may_stand_beside_weights(
    tmp_path: Path, zipped: bool, module: str
) -> None:
    path, named_as = tmp_path / "best.tar", f"c{module}.multiarray".encode()
    tensors = {"weight": torch.ones(2)}
    content = {"state_dict": tensors, "reward": np.float64(900), "f": np.float32(1)}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    if not zipped:  # as NumPy of either generation writes it
        written_as = b"cnumpy._core.multiarray"
        assert written_as in path.read_bytes()
        path.write_bytes(path.read_bytes().replace(written_as, named_as))
    np.testing.assert_array_equal(read_arrays(path)["weight"], [1, 1])


def test_numbers_of_all_widths_are_read_and_others_refused(tmp_path: Path) -> None:
    kinds = {
        "a": torch.bfloat16,
        "b": torch.float16,
        "c": torch.float64,
        "d": torch.int8,
    }
    tensors = {name: torch.ones(2, dtype=kind) for name, kind in kinds.items()}
    save_tensors(tensors, tmp_path / "some.safetensors")
    torch.save({**tensors, "e": nn.Parameter(torch.ones(2))}, tmp_path / "some.pt")
    for suffix in (".safetensors", ".pt"):
        for array in read_arrays(tmp_path / f"some{suffix}").values():
            np.testing.assert_array_equal(array, [1, 1])
    for odd in (torch.ones(2, dtype=torch.complex64), torch.ones(2).to_sparse()):
        torch.save({"w": odd}, tmp_path / "odd.pt")
        with pytest.raises(InputError, match="w: expected dense numbers, found"):
            read_arrays(tmp_path / "odd.pt")
    for array in (np.ones(2, complex), np.array(["1", "2"]), np.ones(2, "M8[s]")):
        np.savez(tmp_path / "odd.npz", w=array)
        with pytest.raises(InputError, match="w: expected numbers, found"):
            read_arrays(tmp_path / "odd.npz")


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


@pytest.mark.parametrize(
    "text",
    [
        *("[", "{}", "[]", '[["a"]]', "[[1, [2]]]", "[null]", '["12"]', "[true]"),
        *("[[NaN]]", "[[1e999]]", "[" * 100_000, "[[" + "9" * 400 + "]]", "\0"),
    ],
    ids=str.__len__,
)
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
    endless["bias"] = np.array([1.0, 1e300])  # none of float32
    with pytest.raises(InputError, match="not finite: bias"):
        fill(module, endless, "endless.pt")
    np.testing.assert_array_equal(module.weight.detach(), ARRAYS["weight"])


def test_sizes_are_those_of_all_shapes() -> None:
    shapes = {"weight": "outputs inputs", "bias": "outputs"}
    assert sizes(ARRAYS, shapes, "some.pt") == {"outputs": 2, "inputs": 3}
    for wrong, said in (
        ({"weight": "outputs inputs", "bias": "inputs"}, r"bias: expected \(3\)"),
        ({"weight": "4 inputs"}, r"weight: expected \(4, 3\), found \(2, 3\)"),
        ({"bias": "outputs inputs"}, r"bias: expected \(2, inputs\), found \(2,\)"),
        ({"weight": "outputs"}, r"weight: expected \(2\), found \(2, 3\)"),
    ):
        with pytest.raises(InputError, match=rf"some\.pt: {said}"):
            sizes(ARRAYS, wrong, "some.pt")
    with pytest.raises(InputError, match=r"a: expected \(all\), found \(0,\)"):
        sizes({"a": np.ones(0)}, {"a": "all"}, "some.pt")


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


def test_two_arrays_of_one_name_are_refused() -> None:
    with pytest.raises(InputError, match=r"some\.pt: two arrays for bias: weight, as"):
        named(ARRAYS, {"bias": "weight"}, "some.pt")
    swapped = named(ARRAYS, {"bias": "weight", "weight": "bias"}, "some.pt")
    assert swapped["bias"] is ARRAYS["weight"]
