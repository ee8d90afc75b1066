"""Disjoint slices of a TFDS split, as split expressions such as 'train[:30000]'."""

from __future__ import annotations

import itertools
import re

import numpy as np
import tensorflow_datasets as tfds

from intriguing.data.catalog import DatasetCard
from intriguing.names import check_name

_Range = tuple[str, int, int]  # split name, first index, index after the last


def disjoint_halves(card: DatasetCard, split: str) -> tuple[str, str]:
    """Returns the two halves of a split; if the number of examples is odd, the first half is smaller.

    Args:
        card: The data set.
        split: A split, or one contiguous slice of a split.

    Example:
        >>> disjoint_halves(card, "train")
        ('train[:2000]', 'train[2000:]')

    References:
        Szegedy et al., Intriguing properties of neural networks, 2014, section 4.2. https://arxiv.org/abs/1312.6199
    """
    first, second = disjoint_subsets(card, split, 2)
    return first, second


def disjoint_subsets(card: DatasetCard, split: str, num_subsets: int) -> tuple[str, ...]:
    """Divides a split into consecutive subsets whose sizes differ by at most one.

    Args:
        card: The data set.
        split: A split, or one contiguous slice of a split.
        num_subsets: Number of subsets, from one to the number of examples.

    Returns:
        Split expressions in absolute indices, which identify the examples in a report.

    Raises:
        ValueError: If the split is unknown or not contiguous, or contains fewer examples than `num_subsets`.

    Example:
        >>> disjoint_subsets(card, "train", 4)
        ('train[:1000]', 'train[1000:2000]', 'train[2000:3000]', 'train[3000:]')
    """
    size = num_examples(card, split)
    if not 1 <= num_subsets <= size:
        raise ValueError(f"num_subsets must be from 1 to {size}, the number of examples of {split!r}; received {num_subsets}.")
    ranges = _ranges(card, split)
    if len(ranges) > 1:
        raise ValueError(f"split must be one contiguous slice; received {split!r}. Divide each of its parts separately.")
    name, start, _ = ranges[0]
    bounds = [start + size * number // num_subsets for number in range(num_subsets + 1)]
    return tuple(_expression(card, name, low, high) for low, high in itertools.pairwise(bounds))


def num_examples(card: DatasetCard, subset: str) -> int:
    """Returns the number of examples that TFDS reads for a subset; repeated examples, as in 'train+train', count repeatedly.

    Raises:
        ValueError: If the split is unknown, or the expression is malformed, exceeds the split, or is empty.

    Example:
        >>> num_examples(card, "train[:25%]")
        1000
    """
    return sum(stop - start for _, start, stop in _ranges(card, subset))


def num_shared_examples(card: DatasetCard, first: str, second: str) -> int:
    """Returns the number of examples in both subsets.

    Example:
        >>> num_shared_examples(card, "train[:1000]", "train[900:]")
        100
    """
    return int(sum(np.count_nonzero(shared) for shared in _shared(card, first, second).values()))


def check_disjoint(card: DatasetCard, *subsets: str) -> None:
    """Raises a `ValueError` if two of the subsets share an example; the message suggests disjoint subsets.

    Example:
        >>> check_disjoint(card, "train[:50%]", "train[50%:]")
    """
    for first, second in itertools.combinations(subsets, 2):
        num_shared = num_shared_examples(card, first, second)
        if num_shared:
            split = next(name for name, shared in _shared(card, first, second).items() if shared.any())
            suggested = f"disjoint_halves(card, '{split}')"
            if len(subsets) > 2:
                suggested = f"disjoint_subsets(card, '{split}', {len(subsets)})"
            raise ValueError(
                f"subsets {first!r} and {second!r} of {card.name} share {num_shared} examples; expected none. Use {suggested}."
            )


def _ranges(card: DatasetCard, subset: str) -> list[_Range]:
    """Resolves an expression by the arithmetic of TFDS, so that the slices are those that TFDS reads."""
    _check_split_names(card, subset)
    infos = {name: tfds.core.SplitInfo(name=name, shard_lengths=[size], num_bytes=0) for name, size in card.split_sizes.items()}
    try:
        slices = tfds.core.ReadInstruction.from_spec(subset).to_absolute(infos)
    except ValueError as error:
        raise ValueError(
            f"subset {subset!r} of {card.name} cannot be read; expected an expression such as 'train[:100]' or 'train[50%:]' "
            f"within {dict(card.split_sizes)}. TFDS reports: {str(error).splitlines()[-1]}"
        ) from error
    ranges = [(s.splitname, s.from_ or 0, card.split_sizes[s.splitname] if s.to is None else s.to) for s in slices]
    if any(stop <= start for _, start, stop in ranges):
        raise ValueError(
            f"subset {subset!r} of {card.name} must contain at least one example; received an empty slice. Widen the slice."
        )
    return ranges


def _check_split_names(card: DatasetCard, subset: str) -> None:
    known = [*card.split_sizes, "all"]
    for part in re.split(r"\s*\+\s*", subset):
        name = part.split("[")[0]
        if name:
            check_name(name, known, f"split of {card.name}")
        if "shard" in part:
            raise ValueError(
                f"subset {subset!r} counts shards, which differ between machines. Use counts or percentages of examples."
            )


def _shared(card: DatasetCard, first: str, second: str) -> dict[str, np.ndarray]:
    return {name: _members(card, first, name) & _members(card, second, name) for name in card.split_sizes}


def _members(card: DatasetCard, subset: str, split: str) -> np.ndarray:
    members = np.zeros(card.split_sizes[split], dtype=bool)
    for name, start, stop in _ranges(card, subset):
        if name == split:
            members[start:stop] = True
    return members


def _expression(card: DatasetCard, split: str, start: int, stop: int) -> str:
    low = str(start) if start > 0 else ""
    high = str(stop) if stop < card.split_sizes[split] else ""
    return f"{split}[{low}:{high}]" if low or high else split
