"""Tests of pictures and animations on disk."""

import base64
from pathlib import Path

import numpy as np
import pytest
from kedro.io import DatasetError, Version
from PIL import Image

from tests.full_disk import files_of_at_most
from wm_pipeline.datasets import AnimationDataset


@pytest.fixture
def picture() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (40, 60, 3), np.uint8)


@pytest.fixture
def film() -> np.ndarray:
    """A bright square that crosses a room with a floor, a wall and a lamp."""
    film = np.zeros((6, 32, 32, 3), np.uint8)
    film[:, 16:] = (90, 60, 30)
    film[:, 2:5, 2:5] = (250, 240, 200)
    for step, frame in enumerate(film):
        frame[20:26, 5 * step : 5 * step + 6] = (220, 40, 40)
    return film


def test_pictures_come_back_exactly(tmp_path: Path, picture: np.ndarray):
    dataset = AnimationDataset(filepath=str(tmp_path / "new" / "p.png"))
    assert not dataset.exists()
    dataset.save(picture)
    assert dataset.exists()
    np.testing.assert_array_equal(dataset.load(), picture)


def test_animations_come_back(tmp_path: Path, film: np.ndarray):
    dataset = AnimationDataset(filepath=str(tmp_path / "a.gif"))
    dataset.save(film)
    loaded = dataset.load()
    assert (loaded.shape, loaded.dtype) == (film.shape, np.uint8)
    # A GIF has 256 colours, which are enough for this film.
    np.testing.assert_allclose(loaded, film, atol=2)


def test_a_few_bright_pixels_keep_their_colour(tmp_path: Path):
    """A room of a thousand shades, in which something yellow is twelve pixels large."""
    random = np.random.default_rng(1)
    film = random.integers(40, 120, (5, 100, 100, 3), np.uint8)
    film[:, 50:53, 50:54] = (250, 240, 40)
    dataset = AnimationDataset(filepath=str(tmp_path / "a.gif"))
    dataset.save(film)
    np.testing.assert_allclose(
        dataset.load()[:, 50:53, 50:54], film[:, 50:53, 50:54], atol=16
    )


def test_noise_that_nobody_sees_costs_nothing_and_changes_little(tmp_path: Path):
    random = np.random.default_rng(1)
    still = np.zeros((12, 64, 64, 3), np.uint8)
    still[:, :, 32:] = 200
    # No pixel differs by more than 6 from the first frame's.
    noisy = still + random.integers(0, 7, still.shape, np.uint8)
    noisy[0] = still[0] + 3
    sizes = []
    for name, film in (("still", still), ("noisy", noisy)):
        dataset = AnimationDataset(filepath=str(tmp_path / f"{name}.gif"))
        dataset.save(np.ascontiguousarray(film))
        sizes.append((tmp_path / f"{name}.gif").stat().st_size)
        loaded = dataset.load()
        assert loaded.shape == film.shape
        np.testing.assert_allclose(loaded, film, atol=12)
    assert sizes[1] < 1.2 * sizes[0]


def test_a_light_that_goes_out_is_seen(tmp_path: Path):
    film = np.full((2, 8, 8, 3), 252, np.uint8)
    film[1] = 2
    dataset = AnimationDataset(filepath=str(tmp_path / "a.gif"))
    dataset.save(film)
    np.testing.assert_allclose(dataset.load(), film, atol=2)


def test_what_changes_slowly_arrives(tmp_path: Path):
    levels = np.arange(20, 220, 4, dtype=np.uint8)
    film = np.broadcast_to(levels[:, None, None, None], (50, 8, 8, 3))
    dataset = AnimationDataset(filepath=str(tmp_path / "a.gif"))
    dataset.save(np.ascontiguousarray(film))
    np.testing.assert_allclose(dataset.load(), film, atol=8)


def test_frames_in_which_nothing_moves_are_kept(tmp_path: Path, film: np.ndarray):
    film[3] = film[2]
    dataset = AnimationDataset(filepath=str(tmp_path / "a.gif"))
    dataset.save(film)
    assert dataset.load().shape == film.shape


@pytest.mark.parametrize(
    ("frames_per_second", "milliseconds"), [(10, 100), (20, 50), (5, 200)]
)
def test_animations_have_their_speed_and_repeat(
    tmp_path: Path, film: np.ndarray, frames_per_second: float, milliseconds: int
):
    path = tmp_path / "a.gif"
    AnimationDataset(filepath=str(path), frames_per_second=frames_per_second).save(film)
    with Image.open(path) as image:
        assert image.info["duration"] == milliseconds
        assert image.info["loop"] == 0


@pytest.mark.parametrize("name", ["p.png", "a.gif"])
def test_versions_lie_side_by_side(
    tmp_path: Path, picture: np.ndarray, film: np.ndarray, name: str
):
    path = tmp_path / name
    data = picture if name == "p.png" else film
    for version in ("2026-01-01T00.00.00.000Z", "2026-01-02T00.00.00.000Z"):
        AnimationDataset(filepath=str(path), version=Version(None, version)).save(data)
        assert (path / version / name).is_file()
    latest = AnimationDataset(filepath=str(path), version=Version(None, None))
    assert latest.exists()
    assert latest.load().shape == data.shape


@pytest.mark.parametrize(
    ("name", "shape", "kind"),
    [
        ("p.png", (4, 8, 8, 3), np.uint8),
        ("a.gif", (8, 8, 3), np.uint8),
        ("p.png", (8, 8), np.uint8),
        ("p.png", (8, 8, 4), np.uint8),
        ("p.png", (8, 8, 3), np.float32),
    ],
)
def test_what_is_no_picture_is_refused_with_the_path(
    tmp_path: Path, name: str, shape: tuple[int, ...], kind: type
):
    path = tmp_path / name
    with pytest.raises(DatasetError, match=f"{path}: expected .* found ") as raised:
        AnimationDataset(filepath=str(path)).save(np.zeros(shape, kind))
    assert f"found {shape} {np.dtype(kind)}" in str(raised.value)
    assert list(tmp_path.iterdir()) == []


def test_an_animation_without_frames_leaves_no_file(tmp_path: Path):
    with pytest.raises(DatasetError):
        AnimationDataset(filepath=str(tmp_path / "a.gif")).save(
            np.zeros((0, 8, 8, 3), np.uint8)
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["p.png", "a.gif"])
def test_a_full_disk_leaves_the_older_file(
    tmp_path: Path, picture: np.ndarray, name: str
):
    dataset = AnimationDataset(filepath=str(tmp_path / name))
    data = picture if name == "p.png" else np.stack([picture, picture[::-1]])
    dataset.save(data)
    before = (tmp_path / name).read_bytes()
    with files_of_at_most(1000), pytest.raises(DatasetError, match="File too large"):
        dataset.save(data)
    assert (tmp_path / name).read_bytes() == before
    assert list(tmp_path.iterdir()) == [tmp_path / name]


def test_the_preview_is_the_file(tmp_path: Path, picture: np.ndarray):
    dataset = AnimationDataset(filepath=str(tmp_path / "p.png"))
    dataset.save(picture)
    assert base64.b64decode(dataset.preview()) == (tmp_path / "p.png").read_bytes()
