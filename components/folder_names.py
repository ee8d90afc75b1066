"""Names of folders, from names of networks and subsets."""

from __future__ import annotations


def folder_name(name: str) -> str:
    """Returns the name of a folder: `FC100-100-10'` becomes `FC100-100-10_prime`."""
    spelled = name.replace("'", "_prime").replace("(", "_").replace(")", "")
    return "".join(character if character.isalnum() or character in "-_." else "_" for character in spelled)
