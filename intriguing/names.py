"""Names that people type: an unknown one is answered with the nearest known one."""

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
    lowered = {candidate.lower(): candidate for candidate in known}
    matches = difflib.get_close_matches(name.lower(), lowered, n=1, cutoff=0.4)
    suggestion = f" Did you mean {lowered[matches[0]]!r}?" if matches else ""
    raise ValueError(f"unknown {kind} {name!r}.{suggestion} Known: {', '.join(known)}.")
