"""Runs steps one after another; a step's files appear whole or not at all, and a finished step is reused.

What a step keeps in its `tmp_dir` survives an interruption, so that a long one can go on in the middle.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from absl import logging
from tqdm import tqdm

from components.artifacts import MANIFEST, CorruptArtifactError
from components.contract import Component
from components.lock import locked
from intriguing.distribution.strategy import writes_files

_WAIT_SECONDS = 600.0


def run(components: Sequence[Component]) -> None:
    """Runs the steps in order.

    Under a strategy of several workers all of them compute, where a step has anything to share; the chief alone publishes, and
    the others wait until its files are there, so `workdir` must be a folder that all of them see.

    Args:
        components: In an order in which every input is made before it is used.

    Raises:
        OSError: If the folder cannot be written to; the message suggests what to do.
        CorruptArtifactError: If a finished step was altered.
    """
    for index, component in enumerate(components, start=1):
        if writes_files():
            _make(component)
        title = f"[{index:>{len(str(len(components)))}}/{len(components)}] {component.id}"
        if component.is_finished():
            _say(f"{title}  reused")
            continue
        _lead(component, title) if writes_files() else _follow(component)


def _say(text: str) -> None:
    if writes_files():
        print(text, file=sys.stderr, flush=True)


class _Bar:
    """A progress bar that appears at the first report, shows the elapsed time, and disappears at the end."""

    def __init__(self) -> None:
        self._bar: tqdm | None = None
        self._closed = threading.Event()
        self._clock = threading.Thread(target=self._show_time, daemon=True)

    def update(self, done: int, total: int, remark: str = "") -> None:
        if self._bar is None or self._bar.total != total:
            self._close_bar()
            # In a file a bar is a line each time it moves: rarely, there.
            seconds = 0.2 if sys.stderr.isatty() else 10.0
            # Without `miniters` a bar that moved by much at once waits until it moves by as much again.
            self._bar = tqdm(total=total, leave=False, mininterval=seconds, miniters=1, dynamic_ncols=True, postfix=remark)
        if not self._clock.is_alive() and not self._closed.is_set():
            self._clock.start()
        self._bar.set_postfix_str(remark, refresh=False)
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        self._closed.set()
        if self._clock.is_alive():
            self._clock.join()
        self._close_bar()

    def _close_bar(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _show_time(self) -> None:
        """A batch of an attack may take minutes, in which nothing is reported."""
        while not self._closed.wait(1.0 if sys.stderr.isatty() else 60.0):
            bar = self._bar
            if bar is not None:
                bar.refresh()


def _make(component: Component) -> None:
    """Makes the folder of the pipeline, and checks that the step can have one in it."""
    try:
        component.workdir.mkdir(parents=True, exist_ok=True)
        _partial(component).exists()  # raises if the name is too long
    except (OSError, ValueError) as error:  # ValueError: a null character
        reason = str(getattr(error, "strerror", None) or error)
        if isinstance(error, FileExistsError):
            reason = os.strerror(errno.ENOTDIR)
        raise OSError(
            getattr(error, "errno", None) or errno.EINVAL,
            f"cannot write to {component.workdir}: {reason}. Make the folder, or pass another --workdir",
        ) from error


def _lead(component: Component, title: str) -> None:
    """Does the work and publishes it, on the only worker or on the chief, unless another process was doing just that."""
    with _alone(component, title):
        if component.is_finished():
            _say(f"{title}  reused")
            return
        began = time.monotonic()
        _say(f"{title}  {_replaced(component)}...")
        _work(component)
        _say(f"{title}  done in {time.monotonic() - began:.1f} s")


def _alone(component: Component, title: str) -> contextlib.AbstractContextManager[None]:
    def waits(holder: str) -> None:
        _say(
            f"{title}  waits for process {holder}, which is working on the same step in {component.workdir}. To go on now, "
            "stop that process, or pass another --workdir."
        )

    return locked(component.workdir / f".{component.id}.lock", waits)


def _replaced(component: Component) -> str:
    """Returns in words which earlier result is replaced, and what has changed since."""
    if not (component.output.uri / MANIFEST).is_file():
        return ""
    differences = component.differences(component.output.manifest())
    return f"replaces the result of an earlier run ({differences}); pass another --workdir to keep both  "


def _partial(component: Component) -> Path:
    return component.workdir / f".{component.id}.partial"


def _work(component: Component) -> None:
    bar = _Bar()
    partial = _partial(component)
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        component.execute(partial, bar.update)
        _publish(partial, component.output.uri)
        shutil.rmtree(component.tmp_dir, ignore_errors=True)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT, errno.ENOTDIR):
            raise OSError(
                error.errno,
                f"cannot write to {component.workdir}: {error.strerror}. Make room there, or pass another --workdir",
            ) from error
        raise
    finally:
        bar.close()
        shutil.rmtree(partial, ignore_errors=True)


def _follow(component: Component) -> None:
    """Takes part in the computation on a worker that is not the chief, throws its files away, and waits for the chief's."""
    if component.ON_EVERY_WORKER:
        with tempfile.TemporaryDirectory() as scratch:
            component.execute(Path(scratch), lambda done, total, remark: None)
    _wait_for(component)


def _publish(partial: Path, final: Path) -> None:
    stale = final.with_name(f".{final.name}.stale")
    shutil.rmtree(stale, ignore_errors=True)
    if final.exists():
        final.rename(stale)
    partial.rename(final)
    shutil.rmtree(stale, ignore_errors=True)


def _wait_for(component: Component) -> None:
    deadline = time.monotonic() + _WAIT_SECONDS
    while not _is_published(component):
        if time.monotonic() > deadline:
            raise TimeoutError(
                f"the chief did not publish {component.output.uri} within {_WAIT_SECONDS:.0f} s. Is --workdir a folder that "
                "all workers see?"
            )
        logging.log_every_n_seconds(logging.INFO, "waiting for %s", 30, component.output.uri)
        time.sleep(0.2)


def _is_published(component: Component) -> bool:
    try:
        return component.is_finished()
    except (CorruptArtifactError, FileNotFoundError):
        return False  # seen while the chief was replacing an older result
