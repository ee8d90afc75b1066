"""Checks of names that users pass; the error message suggests the nearest known name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def check_name(name: str, known: Iterable[str], kind: str) -> None:
    """Raises a `ValueError` that suggests the nearest known name, unless `name` is known; a `TypeError` if it is not a string.

    Args:
        name: The name to check.
        known: The known names.
        kind: What the name stands for, such as "model", for the message.
    """
    known = list(known)
    if name in known:
        return
    if not isinstance(name, str):
        raise TypeError(f"the {kind} must be a string; received {name!r}. Known: {', '.join(known)}.")
    raise ValueError(f"unknown {kind} {name!r}.{suggestion(name, known)} Known: {', '.join(known)}.")


def suggestion(name: str, known: Iterable[str]) -> str:
    """Returns a sentence that suggests the nearest known name; an empty string if no name is near.

    Example:
        >>> suggestion("mnits", ["mnist", "cifar10"])
        " Did you mean 'mnist'?"
    """
    lowered = {candidate.lower(): candidate for candidate in known}
    matches = difflib.get_close_matches(name.lower(), lowered, n=1, cutoff=0.4)
    return f" Did you mean {lowered[matches[0]]!r}?" if matches else ""
