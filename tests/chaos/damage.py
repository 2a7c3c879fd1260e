"""Files that are damaged, each before a stage that reads it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tests.chaos.contents import contents, newest_files
from tests.chaos.kills import RESUMED
from tests.chaos.runs import Ended, kedro
from tests.chaos.trials import Bad, Reference, Verdict, broken, differing, orderly

READERS = {
    "episodes": "vision",
    "latents": "memory",
    "vae": "memory",
    "mdn_rnn": "dream",
    "world_model": "controller",
    "search_state": "controller",
    "controller": "evaluation",
    "evaluation_episodes": "pictures",
    "evaluation_summary": "results",
    "vae_scores": "results",
    "mdn_rnn_scores": "results",
    "dream_scores": "results",
    "controller_choice": "results",
    "run_record": "results",
    "stage_seconds": "results",
}
"""By what a file holds, the stage that reads it."""

Damage = Callable[[Path, np.random.Generator, Path], None]


def cut(path: Path, random: np.random.Generator, _: Path) -> None:
    """Cut a file short."""
    content = path.read_bytes()
    path.write_bytes(content[: random.integers(len(content))])


def empty(path: Path, _: np.random.Generator, __: Path) -> None:
    """Leave nothing of a file."""
    path.write_bytes(b"")


def flip(path: Path, random: np.random.Generator, _: Path) -> None:
    """Flip a bit somewhere."""
    content = bytearray(path.read_bytes())
    content[random.integers(len(content))] ^= 1 << int(random.integers(8))
    path.write_bytes(content)


def zero(path: Path, random: np.random.Generator, _: Path) -> None:
    """Zero a stretch, as a crash of the machine may."""
    content = bytearray(path.read_bytes())
    first = int(random.integers(len(content)))
    length = min(int(random.integers(1, 4096)), len(content) - first)
    content[first : first + length] = bytes(length)
    path.write_bytes(content)


def noise(path: Path, random: np.random.Generator, _: Path) -> None:
    """Put something else in its place."""
    path.write_bytes(random.bytes(int(random.integers(1, 5000))))


def grow(path: Path, random: np.random.Generator, _: Path) -> None:
    """Append something."""
    path.write_bytes(path.read_bytes() + random.bytes(int(random.integers(1, 100))))


def swap(path: Path, random: np.random.Generator, project: Path) -> None:
    """Put another of the project's files of that kind in its place."""
    others = [p for p in newest_files(project) if p.suffix == path.suffix and p != path]
    if others:
        shutil.copy(others[random.integers(len(others))], path)
    else:
        flip(path, random, project)


def folder(path: Path, _: np.random.Generator, __: Path) -> None:
    """Put a folder in its place."""
    path.unlink()
    path.mkdir()


def gone(path: Path, _: np.random.Generator, __: Path) -> None:
    """Remove it."""
    path.unlink()


def other_json(path: Path, random: np.random.Generator, project: Path) -> None:
    """JSON of another shape; a header's, where the file is a checkpoint."""
    if path.suffix == ".safetensors":
        content = path.read_bytes()
        length = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + length])
        names = [name for name in header if name != "__metadata__"]
        which, kind = names[random.integers(len(names))], int(random.integers(4))
        if kind == 0:
            header[which]["dtype"] = "I32"
        elif kind == 1:
            header[which]["shape"] = [*header[which]["shape"], 1]
        elif kind == 2:
            del header[which]
        else:
            header["__metadata__"] = {
                key: value.replace("1", "1000000")
                for key, value in header.get("__metadata__", {}).items()
            }
        changed = json.dumps(header).encode()
        path.write_bytes(
            len(changed).to_bytes(8, "little") + changed + content[8 + length :]
        )
    elif path.suffix == ".json":
        values = [[], {}, None, 7, "text", {"real": []}, [{"a": float("nan")}]]
        path.write_text(json.dumps(values[random.integers(len(values))]))
    else:
        flip(path, random, project)


DAMAGES: tuple[Damage, ...] = (
    cut,
    empty,
    flip,
    flip,
    zero,
    noise,
    grow,
    swap,
    swap,
    folder,
    gone,
    other_json,
    other_json,
)


def a_file(reference: Reference, folder: Path, random: np.random.Generator) -> bool:
    """Damage one file and run what reads it, or what makes what is missing.

    It is made again or does not matter, or it is refused in a sentence that names it.

    Returns:
        Whether it was refused.
    """
    with broken(reference, folder) as project:
        files = [*newest_files(project), *_records(project)]
        names = [
            name
            for name in READERS
            if any(name in path.parts or path.stem == name for path in files)
        ]
        name = names[random.integers(len(names))]
        choice = [path for path in files if path.stem == name or name in path.parts]
        path = choice[random.integers(len(choice))]
        damage = DAMAGES[random.integers(len(DAMAGES))]
        damage(path, random, project)
        what = f"{damage.__name__} {path.relative_to(project / 'data')}"
        if random.integers(4) == 0:
            ended = orderly(kedro(project, "--only-missing-outputs"))
        else:
            stage = READERS[name]
            options = ["--params", RESUMED[stage]] if name == "search_state" else []
            ended = orderly(kedro(project, "--pipelines", stage, *options))
        if ended.status == 0:
            _unchanged(reference, project, path, what)
        else:
            _names(ended, path, name, what)
        return ended.status != 0


def _records(project: Path) -> list[Path]:
    return [
        max(project.glob(f"data/*/chaos/{name}.json/*/{name}.json"))
        for name in ("run_record", "stage_seconds")
    ] + [max(project.glob("data/*/chaos/search_state.safetensors/*/*.safetensors"))]


def _names(ended: Ended, path: Path, name: str, what: str) -> None:
    """The message names the file, or what it holds."""
    said = "".join(ended.said.split())  # a console breaks lines anywhere
    if path.name not in said and name not in said:
        raise Bad(Verdict.TRACEBACK, f"{what}: no name in {ended.said[-500:]}")


def _unchanged(reference: Reference, project: Path, path: Path, what: str) -> None:
    """What came of it is what comes of the undamaged file."""
    changed = {name for name in contents(project) if path.name in name}
    wrong = set(differing(contents(project), reference.first)) - changed
    if wrong:
        raise Bad(Verdict.FALSE, f"{what}: {', '.join(sorted(wrong)[:3])} are others")
