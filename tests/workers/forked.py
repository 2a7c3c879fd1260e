"""The worker processes of a process, which its fork server has forked."""

from contextlib import suppress

import psutil


def servers(pid: int | None = None) -> list[psutil.Process]:
    """The fork server of a process, of this one if no other is named; if it has one."""
    return [each for each in psutil.Process(pid).children() if serves(each)]


def serves(process: psutil.Process) -> bool:
    """Whether it is a fork server; one that has ended has no command line any more."""
    with suppress(psutil.NoSuchProcess):
        return "serve_forks" in " ".join(process.cmdline())
    return False


def forked(pid: int | None = None, *, games: bool = False) -> list[psutil.Process]:
    """Its workers, and, if asked for, what they have started."""
    found = []
    for server in servers(pid):
        with suppress(psutil.NoSuchProcess):
            found += server.children(recursive=games)
    return [process for process in found if lives(process)]


def lives(process: psutil.Process) -> bool:
    """Whether it has not ended; one that has may be there until it is waited for."""
    with suppress(psutil.NoSuchProcess):
        return process.status() != psutil.STATUS_ZOMBIE
    return False
