"""A lock that one process holds at a time, and that ends with its process, also if the process is killed."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

try:
    import fcntl
except ModuleNotFoundError:  # not on Windows, where every process goes ahead
    fcntl = None  # type: ignore[assignment]

_POLL_SECONDS = 0.2


@contextlib.contextmanager
def locked(path: Path, waits: Callable[[str], None]) -> Iterator[None]:
    """Holds the lock of a file, and removes the file in the end; a file that a dead process left is no obstacle.

    Args:
        path: The file, in a folder that exists; it holds the number of the process.
        waits: Called once with the number of the process that holds the lock, before waiting for it.
    """
    if fcntl is None:
        yield
        return
    descriptor = _acquire(path, waits)
    try:
        os.truncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield
    finally:
        path.unlink(missing_ok=True)  # while the lock is held: a process that waits for this file sees that it is gone
        os.close(descriptor)


def _acquire(path: Path, waits: Callable[[str], None]) -> int:
    reported = False
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_still(path, descriptor):
                return descriptor
        except BlockingIOError:
            if not reported:
                waits(os.pread(descriptor, 20, 0).decode() or "unknown")
            reported = True
            time.sleep(_POLL_SECONDS)
        except OSError:
            return descriptor  # some network file systems have no locks
        os.close(descriptor)


def _is_still(path: Path, descriptor: int) -> bool:
    """False if the file was removed, or created again by another process, before the lock was granted."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False
