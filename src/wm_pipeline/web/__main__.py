"""Serve the newest page: ``python -m wm_pipeline.web data/08_reporting``."""

import argparse
import contextlib
import sys
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

ADDRESS = "127.0.0.1"
NAMES = (ADDRESS, "localhost")


class Handler(SimpleHTTPRequestHandler):
    """Files of one folder, to this machine's own names only."""

    def send_head(self) -> Any:
        """Begin a file; nothing for who came by another name, as by DNS rebinding."""
        if self.headers.get("Host", "").split(":")[0] not in NAMES:
            self.send_error(403, f"expected {' or '.join(NAMES)}")
            return None
        return super().send_head()

    def end_headers(self) -> None:
        """A page that was made anew is read anew."""
        self.send_header("Cache-Control", "no-cache")
        super().end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: a line a file says little."""


def main(arguments: list[str]) -> int:
    """Serve until Ctrl-C.

    Args:
        arguments: ``FOLDER [--port PORT]``.

    Returns:
        The exit status.
    """
    parser = argparse.ArgumentParser(prog="wm_pipeline.web", description=__doc__)
    parser.add_argument("folder", type=Path, help="data/08_reporting, of all tasks")
    parser.add_argument("--port", type=int, default=8000)
    asked = parser.parse_args(arguments)
    # A version's name is the time of its run.
    found = asked.folder.glob("*/play.json/*/play.json")
    pages = sorted(found, key=lambda page: page.parent.name)
    if not pages:
        sys.stderr.write(
            f"{asked.folder}: no page; kedro run --pipelines play makes one\n"
        )
        return 1
    page = pages[-1].with_suffix("")
    try:
        server = ThreadingHTTPServer(
            (ADDRESS, asked.port), partial(Handler, directory=str(page))
        )
    except (OSError, OverflowError) as error:
        why = error.strerror if isinstance(error, OSError) else "expected 0 to 65535"
        sys.stderr.write(f"port {asked.port}: {why}; choose another\n")
        return 1
    sys.stderr.write(f"http://{ADDRESS}:{server.server_port}  (Ctrl-C ends it)\n")
    with server, contextlib.suppress(KeyboardInterrupt):
        server.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
