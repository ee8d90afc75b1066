"""Checks of names that users type; the error message suggests the nearest known name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def check_name(name: str, known: Iterable[str], kind: str) -> None:
    """Raises a `ValueError` that offers the nearest known name, unless `name` is known.

    Args:
        name: What was typed.
        known: The names there are.
        kind: What is named, in one or two words, for the message.
    """
    known = list(known)
    if name in known:
        return
    raise ValueError(f"unknown {kind} {name!r}.{suggestion(name, known)} Known: {', '.join(known)}.")


def suggestion(name: str, known: Iterable[str]) -> str:
    """Returns a sentence that offers the nearest known name, or nothing if none is near.

    Example:
        >>> suggestion("mnits", ["mnist", "cifar10"])
        " Did you mean 'mnist'?"
    """
    lowered = {candidate.lower(): candidate for candidate in known}
    matches = difflib.get_close_matches(name.lower(), lowered, n=1, cutoff=0.4)
    return f" Did you mean {lowered[matches[0]]!r}?" if matches else ""
