"""The worker processes of a process, which its fork server has forked."""

import psutil


def servers(pid: int | None = None) -> list[psutil.Process]:
    """The fork server of a process, of this one if no other is named; if it has one."""
    found = psutil.Process(pid).children()
    return [each for each in found if "serve_forks" in " ".join(each.cmdline())]


def forked(pid: int | None = None, *, games: bool = False) -> list[psutil.Process]:
    """Its workers, and, if asked for, what they have started."""
    return [
        process
        for server in servers(pid)
        for process in server.children(recursive=games)
    ]
