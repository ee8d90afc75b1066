"""What an error must be like that the library raises for a mistake of its user."""

from __future__ import annotations

import re

_OURS = re.compile(r"(?i)expect|received|must|pass |check ")
_FOREIGN = re.compile(r"Exception encountered|Arguments received by|function_node|user code:|Traceback|inhomogeneous|\[Op:")


def assert_in_our_words(error: BaseException) -> None:
    """Fails unless it is a ValueError or TypeError of the library that tells what was expected or received, and quotes nobody else."""
    assert type(error).__module__.split(".")[0] in ("builtins", "intriguing"), (
        f"{type(error).__name__} is no error of this library: {error}"
    )
    assert isinstance(error, (ValueError, TypeError)), f"{type(error).__name__} is no error for a user: {error}"
    assert _OURS.search(str(error)), f"it must tell what was expected or received: {error}"
    assert not _FOREIGN.search(str(error)), f"it quotes TensorFlow, Keras or NumPy: {error}"
