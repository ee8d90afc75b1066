"""A folder in which compiled XLA programs, and traces of `kept_traces`, are stored for other processes.

XLA reads and writes one file per program in a folder that an environment variable names. If a file is damaged, it raises an
error, or the process ends with a segmentation fault. It also raises an error if it cannot write. So this module passes XLA a
folder in the memory of the process (`ram://`), and copies files between that folder and the one on disk: to memory when a
program is needed and its checksum is right, and to disk after the program was compiled.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import logging
import os
import platform
import re
import tempfile
import time
import uuid
from pathlib import Path

import tensorflow as tf

from intriguing.distribution.tensorflow_internals import tensorflow_has_started

ENVIRONMENT_VARIABLE = "INTRIGUING_XLA_CACHE"
MAX_BYTES = 2**30  # on disk, for all versions and processors together
_FORMAT = 1  # increase it when programs of an earlier format must not be loaded
_MEMORY_FOLDER = "ram:///intriguing_xla"
_MAX_MEMORY_BYTES = 2**27  # of files that XLA has read or written, and may read again for another device
_XLA_FLAG = "--tf_xla_persistent_cache_directory="
# Programs of a GPU or TPU are not stored: this cache was never tested with them.
_OUR_FLAGS = f"{_XLA_FLAG}{_MEMORY_FOLDER} --tf_xla_persistent_cache_device_types=CPU"
# Digest of the graph, checksum, and the name by which XLA identifies the program.
_ENTRY = re.compile(r"(?P<digest>[0-9a-f]{32})-(?P<checksum>[0-9a-f]{32})-(?P<name>\w+\.pb)")
_TRACE = "trace.pb"  # in place of XLA's name
_PROGRAM_NAME = re.compile(rb"program_([0-9a-f]{32})_")
_UNFINISHED, _UNFINISHED_SECONDS = ".unfinished-", 3600.0
_logger = logging.getLogger(__name__)
_folder: Path | None = None
_warned: set[str] = set()


def enable_cache(directory: str | os.PathLike[str] | None = None) -> Path | None:
    """Stores searches on disk, traced and compiled, so that the next process loads them.

    Call it once, before the first computation of the process, before devices are listed, and before `absl.app.run`: TensorFlow
    reads its flags only once. If the folder cannot be used, or a file is damaged, programs are compiled again. When a program
    is loaded, TensorFlow logs "Error parsing text-format tensorflow.XlaSerializedCacheEntry", because it first reads the file
    as text.

    Programs of another version of TensorFlow, another processor or other flags of XLA are not loaded, nor traces that another
    version of this library has written. If you replace functions of this library at run time, turn the cache off: a trace from
    disk does not contain the change. Only programs of `compile_program` on a CPU are stored. The files are executable code:
    only this user may have write access to the folder.

    Args:
        directory: The folder; "off" for none. If omitted, the environment variable `INTRIGUING_XLA_CACHE` names the folder, or
            turns the cache off with "" or "off"; without the variable, the folder is `$XDG_CACHE_HOME/intriguing/xla` or
            `~/.cache/intriguing/xla`. If its files exceed `MAX_BYTES`, this function deletes those that were not used for the
            longest time.

    Returns:
        The folder with the programs of this version and processor; None if the cache is off, if TensorFlow has already read its
        flags (a warning is logged), or if the user has set `tf_xla_persistent_cache_directory` in `TF_XLA_FLAGS`, which is not
        changed.

    Example:
        >>> folder = enable_cache("off")  # or a path, or nothing
        >>> print(folder)
        None
    """
    global _folder
    collect()
    _forget()
    _folder = None
    root = _root(directory)
    if root is None or not _flags_can_be_set():
        return None
    if _OUR_FLAGS not in os.environ.get("TF_XLA_FLAGS", "") and tensorflow_has_started():
        _warn_once(
            "Compiled programs are not kept, because TensorFlow has already read its flags. Call enable_cache() right after "
            "the imports, before anything is computed and before devices are listed."
        )
        return None
    try:
        _folder = _private_folder(root)
    except OSError as error:
        _warn_once(f"Compiled programs are not kept, because the folder {root} cannot be used ({error.strerror or error}).")
        return None
    _set_flags()
    _delete_oldest(root)
    return _folder


def prepare(digest: str) -> None:
    """Copies the programs that were compiled from the graph with this digest to the memory of XLA."""
    if _folder is None:
        return
    collect()
    for path, match in _entries(_folder, digest):
        _to_memory(path, match)


def collect() -> None:
    """Copies the programs that XLA has compiled since the last call to disk."""
    if _folder is None:
        return
    if sum(_keep(name, _folder) for name in _names_in_memory()) > _MAX_MEMORY_BYTES:
        _forget()


def is_enabled() -> bool:
    """Returns whether the cache has a folder."""
    return _folder is not None


def read_trace(key: str) -> bytes | None:
    """Returns the trace that was stored under a key of 32 hexadecimal digits, or None."""
    found = [] if _folder is None else [_content(path, match) for path, match in _entries(_folder, key)]
    return next((content for content in found if content is not None), None)


def keep_trace(key: str, content: bytes) -> None:
    """Stores a trace for `read_trace`."""
    if _folder is not None:
        _write(_folder / f"{key}-{_checksum(_TRACE, content)}-{_TRACE}", content)


def _root(directory: str | os.PathLike[str] | None) -> Path | None:
    """Returns the folder that the argument or the environment names; None if the cache is off."""
    asked = os.environ.get(ENVIRONMENT_VARIABLE) if directory is None else os.fspath(directory)
    if asked is None:
        asked = os.path.join(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "intriguing", "xla")
    if asked in ("", "off"):
        return None
    root = Path(os.path.expanduser(asked))
    if root.is_absolute() or directory is not None or ENVIRONMENT_VARIABLE in os.environ:
        return root.absolute()
    _warn_once("Compiled programs are not kept, because there is no home folder. Set INTRIGUING_XLA_CACHE to a path.")
    return None


def _flags_can_be_set() -> bool:
    """Returns False if the user has set a folder in the flags, or has written flags to a file."""
    flags = os.environ.get("TF_XLA_FLAGS", "").strip()
    return _OUR_FLAGS in flags or (_XLA_FLAG not in flags and flags[:1] in ("", "-"))


def _set_flags() -> None:
    flags = os.environ.get("TF_XLA_FLAGS", "").strip()
    if _OUR_FLAGS not in flags:
        os.environ["TF_XLA_FLAGS"] = f"{flags} {_OUR_FLAGS}".strip()
    atexit.unregister(collect)
    atexit.register(collect)


def _private_folder(root: Path) -> Path:
    """Creates the folder of this version and processor; raises OSError if other users have write access."""
    folder = root / f"tensorflow-{tf.__version__}-format-{_FORMAT}-{_machine()}"
    for path in (root, folder):
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = folder.stat()
    if hasattr(os, "getuid") and (status.st_uid != os.getuid() or status.st_mode & 0o022):
        raise PermissionError("other users can write to it")
    return folder


def _machine() -> str:
    """Returns a digest of the versions, settings and hardware on which a compiled program depends."""
    settings = [os.environ.get(name, "") for name in ("XLA_FLAGS", "TF_ENABLE_ONEDNN_OPTS", "TF_XLA_FLAGS")]
    parts = [tf.version.GIT_VERSION, platform.machine(), _processor(), str(os.cpu_count()), *settings]
    return hashlib.blake2b("\n".join(parts).replace(_OUR_FLAGS, "").rstrip().encode(), digest_size=8).hexdigest()


def _processor() -> str:
    """Returns the model and features of the processor: a program may use instructions that another processor does not have."""
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").partition("\n\n")[0].splitlines()
    except OSError:
        return platform.processor()
    return "\n".join(line for line in lines if line.startswith(("model name", "flags", "Features", "CPU ")))


def _delete_oldest(root: Path) -> None:
    """Deletes files of this cache until `MAX_BYTES` are left, and unfinished files of interrupted processes."""
    total = 0
    for path, status in sorted(_files(root), key=lambda file: -file[1].st_mtime):
        unfinished = path.name.startswith(_UNFINISHED)
        total += 0 if unfinished else status.st_size
        if time.time() - status.st_mtime > _UNFINISHED_SECONDS if unfinished else total > MAX_BYTES:
            with contextlib.suppress(OSError):
                path.unlink()


def _files(root: Path) -> list[tuple[Path, os.stat_result]]:
    found = []
    for path in root.glob("tensorflow-*/*"):
        if _ENTRY.fullmatch(path.name) or path.name.startswith(_UNFINISHED):
            with contextlib.suppress(OSError):  # another process may delete it
                found.append((path, path.stat()))
    return found


def _entries(folder: Path, digest: str) -> list[tuple[Path, re.Match[str]]]:
    return [(path, match) for path in folder.glob(f"{digest}-*") if (match := _ENTRY.fullmatch(path.name))]


def _to_memory(path: Path, match: re.Match[str]) -> None:
    """Copies a file to the memory of XLA, unless it is there already, or is damaged."""
    target = f"{_MEMORY_FOLDER}/{match['name']}"
    if tf.io.gfile.exists(target):
        return
    content = _content(path, match)
    if content is None:
        return
    tf.io.gfile.makedirs(_MEMORY_FOLDER)
    # Another thread may read the target, and writing to an existing file in memory would append to it.
    unfinished = f"{_MEMORY_FOLDER}/{_UNFINISHED}{uuid.uuid4().hex}"
    with tf.io.gfile.GFile(unfinished, "wb") as file:
        file.write(content)
    tf.io.gfile.rename(unfinished, target, overwrite=True)


def _content(path: Path, match: re.Match[str]) -> bytes | None:
    """Returns the content of a file; None if it cannot be read or is damaged. A damaged file is deleted."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    if match["checksum"] != _checksum(match["name"], content):
        _logger.info("The compiled program %s is damaged, and is compiled again.", path)
        with contextlib.suppress(OSError):
            path.unlink()
        return None
    with contextlib.suppress(OSError):
        os.utime(path)
    return content


def _keep(name: str, folder: Path) -> int:
    """Copies a file of XLA to disk if it is new and a program of `compile_program`; returns its bytes in memory."""
    try:
        with tf.io.gfile.GFile(f"{_MEMORY_FOLDER}/{name}", "rb") as file:
            content = file.read()
    except tf.errors.NotFoundError:
        return 0  # another thread has deleted it
    found = _PROGRAM_NAME.search(content)
    if found is None:
        tf.io.gfile.remove(f"{_MEMORY_FOLDER}/{name}")
        return 0
    digest = found[1].decode()
    if not any(match["name"] == name for _, match in _entries(folder, digest)):
        _write(folder / f"{digest}-{_checksum(name, content)}-{name}", content)
    return len(content)


def _write(path: Path, content: bytes) -> None:
    """Writes a file so that other processes never read a part of it."""
    unfinished = None
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=_UNFINISHED, delete=False) as file:
            unfinished = Path(file.name)
            file.write(content)
        unfinished.replace(path)
    except OSError as error:
        _warn_once(f"A compiled program was not kept, because {path.parent} cannot be written ({error.strerror}).")
        if unfinished is not None:
            with contextlib.suppress(OSError):
                unfinished.unlink()


def _names_in_memory() -> list[str]:
    """Returns the files that XLA has finished; it writes a file under another name first."""
    try:
        return [name for name in tf.io.gfile.listdir(_MEMORY_FOLDER) if name.endswith(".pb")]
    except tf.errors.NotFoundError:
        return []  # nothing has been compiled


def _forget() -> None:
    for name in _names_in_memory():
        with contextlib.suppress(tf.errors.NotFoundError):  # another thread has deleted it
            tf.io.gfile.remove(f"{_MEMORY_FOLDER}/{name}")


def _checksum(name: str, content: bytes) -> str:
    return hashlib.blake2b(name.encode() + b"\n" + content, digest_size=16).hexdigest()


def _warn_once(message: str) -> None:
    if message not in _warned:
        _warned.add(message)
        _logger.warning("%s", message)
