"""Checks that errors for invalid input are clear."""

from __future__ import annotations

import re

_CLEAR = re.compile(r"(?i)expect|received|must|pass |check ")
_FOREIGN = re.compile(r"Exception encountered|Arguments received by|function_node|user code:|Traceback|inhomogeneous|\[Op:")


def assert_clear_error(error: BaseException) -> None:
    """Fails unless the library raised a ValueError or TypeError that says what was expected or received, in its own words."""
    assert type(error).__module__.split(".")[0] in ("builtins", "intriguing"), (
        f"{type(error).__name__} is not an error of this library: {error}"
    )
    assert isinstance(error, (ValueError, TypeError)), f"{type(error).__name__} is not an error for invalid input: {error}"
    assert _CLEAR.search(str(error)), f"the message must say what was expected or received: {error}"
    assert not _FOREIGN.search(str(error)), f"the message quotes TensorFlow, Keras or NumPy: {error}"
