"""C source as a loaded library, compiled once a machine.

The library stays in the user's cache folder under a name that says what it was made of,
so only the first process of a machine compiles. What is loaded runs as this process:
nothing is taken from a folder that another user may write to.
"""

import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from wm_pipeline.common.errors import InputError
from wm_pipeline.common.machine import instructions, processor
from wm_pipeline.common.scratch import scratch_folder

FLAGS = (
    *("-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math"),
    # Tuned for some AMD processors, GCC would fuse a product and a sum in one copy of a
    # loop and not in another, and a row's digits would depend on its batch.
    "--param=avoid-fma-max-bits=0",
    *("-shared", "-fPIC"),
)


def find_compiler() -> list[str] | None:
    """The C compiler's command: ``CC``, which may hold options, or ``cc``.

    Raises:
        InputError: ``CC`` is no command.
    """
    given = os.environ.get("CC", "")
    try:
        command = shlex.split(given) or ["cc"]
    except ValueError as error:
        raise InputError(
            f"CC: expected the command of a C compiler in this environment variable, "
            f"found {given!r}: {error}"
        ) from error
    return command if shutil.which(command[0]) else None


def load_compiled(sources: Sequence[Path], compiler: list[str]) -> ctypes.CDLL:
    """The library of C sources, from the cache if it is there and whole.

    Args:
        sources: C files of one folder, which may include the headers beside them.
        compiler: Of ``find_compiler``.

    Raises:
        subprocess.CalledProcessError: The compiler refuses the source.
        OSError: What it makes does not load.
    """
    name = f"{sources[0].stem}-{_fingerprint(sources, compiler)}"
    cache = cache_folder()
    if cache is not None:
        kept = _load_kept(cache, name)
        if kept is not None:
            return kept
        try:
            return _compile(sources, compiler, cache / name)
        except (OSError, subprocess.CalledProcessError):
            pass  # a full disk, or a file system that holds no programs: try the other
    return _compile(sources, compiler)


def cache_folder() -> Path | None:
    """Where libraries are kept, made if need be; None if others may write to it.

    ``wm_pipeline`` in ``XDG_CACHE_HOME``, or else in the user's usual cache folder.
    """
    if not hasattr(os, "getuid"):  # Windows: no owner to compare
        return None
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))
    usual = "Library/Caches" if sys.platform == "darwin" else ".cache"
    try:
        folder = (given if given.is_absolute() else Path.home() / usual) / "wm_pipeline"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return folder if _only_ours(folder) else None
    except (OSError, RuntimeError):  # read-only, a file in the way; no home at all
        return None


def _fingerprint(sources: Sequence[Path], compiler: list[str]) -> str:
    """Changes with all that a compiled library depends on, 16 hexadecimal digits."""
    program = Path(shutil.which(compiler[0]) or compiler[0]).resolve()
    about = program.stat()
    headers = sorted(sources[0].parent.glob("*.h"))
    parts = (
        *(hashlib.sha256(path.read_bytes()).hexdigest() for path in sources),
        *("", *(hashlib.sha256(path.read_bytes()).hexdigest() for path in headers), ""),
        *(*compiler, "", *FLAGS, ""),
        *(str(program), str(about.st_size), str(about.st_mtime_ns)),
        *(sys.platform, platform.machine(), processor(), _features()),
    )
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _features() -> str:
    """The processor's instructions, for which ``-march=native`` compiles.

    Where the system does not list them, the machine's name: its cache may be shared.
    """
    return " ".join(sorted(instructions())) or platform.node()


def _compile(
    sources: Sequence[Path], compiler: list[str], keep_as: Path | None = None
) -> ctypes.CDLL:
    """The newly compiled library, kept under that name and the digest of its bytes."""
    cache = keep_as.parent if keep_as else None
    with scratch_folder("wm_native_", cache) as folder:
        target = folder / f"{sources[0].stem}.so"
        command = [*compiler, *FLAGS, *map(str, sources), "-o", str(target)]
        subprocess.run(command, capture_output=True, text=True, check=True)
        library = ctypes.CDLL(str(target))
        if keep_as is not None:
            target.chmod(0o600)
            target.replace(keep_as.with_name(f"{keep_as.name}-{_digest(target)}.so"))
    return library


def _load_kept(cache: Path, name: str) -> ctypes.CDLL | None:
    """A whole library of that name; what is damaged or does not load is removed."""
    for path in cache.glob(f"{name}-*.so"):
        # Loading a file that was cut short can end the process.
        if _only_ours(path) and path.stem == f"{name}-{_digest(path)}":
            try:
                return ctypes.CDLL(str(path))
            except OSError:
                pass
        path.unlink(missing_ok=True)
    return None


def _only_ours(path: Path) -> bool:
    """Whether it is this user's, and nobody else may write to it."""
    about = path.stat()
    return about.st_uid == os.getuid() and not about.st_mode & 0o022


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
