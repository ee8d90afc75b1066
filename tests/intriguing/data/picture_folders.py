"""Writes folders of small images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tensorflow as tf

FILES = {
    "train/cat/a.png": (2, 2),
    "train/cat/b.PNG": (3, 2),
    "train/dog/a.png": (2, 4),
    "train/dog/c.gif": (2, 2),
    "train/dog/d.bmp": (2, 2),
    "validation/ant/a.jpg": (8, 8),
    "validation/ant/b.jpeg": (8, 24),
    "validation/cat/a.png": (5, 5),
    "validation/cat/z.png": (2, 2),
}
"""Height and width of each; dog is missing in validation, ant in training."""

LABELS = {"ant": 0, "cat": 1, "dog": 2}


def gray_of(name: str) -> int:
    """Returns the gray level of a file, which differs for all `FILES`."""
    return 20 * list(FILES).index(name) + 10


def write_picture(path: Path, pixels: np.ndarray) -> Path:
    """Writes uint8 `[height, width, channels]` in the format of the file extension."""
    path.parent.mkdir(parents=True, exist_ok=True)
    suffix = path.suffix.lower()
    if suffix in (".gif", ".bmp"):  # TensorFlow cannot write this format
        content = _gif(pixels) if suffix == ".gif" else _bmp(pixels)
    else:
        content = (tf.io.encode_png if suffix == ".png" else tf.io.encode_jpeg)(pixels).numpy()
    path.write_bytes(content)
    return path


def write_pictures(folder: Path) -> Path:
    """Writes `FILES`, each with one gray level, and hidden files."""
    for name, size in FILES.items():
        write_picture(folder / name, np.full((*size, 3), gray_of(name), np.uint8))
    for name in (".DS_Store", "train/.cache/cat/a.png", "train/cat/.a.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("not for us")
    return folder


def truncate(path: Path) -> Path:
    """Removes the second half of a file."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    return path


def _bmp(pixels: np.ndarray) -> bytes:
    height, width, _ = pixels.shape
    rows = [row[:, ::-1].tobytes().ljust(-(-width * 3 // 4) * 4, b"\0") for row in pixels[::-1]]
    return _bmp_header(width, height, 24, 54, sum(map(len, rows))) + b"".join(rows)


def bmp_with_a_palette() -> bytes:
    """Returns a BMP file whose pixels are indices into a palette after the header."""
    table, rows = b"\0\0\xff\0" * 256, b"\7\7\0\0" * 2
    return _bmp_header(2, 2, 8, 54 + len(table), len(rows)) + table + rows


def _bmp_header(width: int, height: int, depth: int, offset: int, size: int) -> bytes:
    words = [offset + size, 0, offset, 40, width, height, 1 | depth << 16, 0, size, 0, 0, 0, 0]
    return b"BM" + np.array(words, "<u4").tobytes()


def _gif(pixels: np.ndarray) -> bytes:
    """Returns two frames: the pixels, which must be 2x2 of one color, and a black one."""
    size, colors = b"\2\0\2\0", pixels[0, 0].tobytes() + bytes(3)
    first, second = (b"\x2c\0\0\0\0" + size + b"\0\2\3" + data + b"\0" for data in (b"\x04\x08\x14", b"\x4c\x98\x14"))
    return b"GIF89a" + size + b"\x80\0\0" + colors + first + second + b"\x3b"
