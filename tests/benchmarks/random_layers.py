"""Compares the bounds of operator norms with the exact norms of random layers.

    python -m tests.benchmarks.random_layers

Each layer is bounded by default, and each convolution also by the bound on a torus, which is used for large layers. Bounds are
divided by the largest singular value of the matrix, in double precision. A minute and a half on two CPU cores.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from intriguing.lipschitz import linear_norms, operator_norms
from tests.oracles.random_layers import random_layer, true_norm

NUM_LAYERS = 300
RTOL_ROUNDING = 2e-6  # as in the tests
LARGE = 16  # the shortest axis of grids on which the torus bound is tight


class Measured(NamedTuple):
    """The bounds of one layer by one method."""

    group: str
    seed: int
    lower: float  # relative to the exact norm
    upper: float


def main(num_layers: int) -> None:
    measured = [row for seed in range(num_layers) for row in measure(seed)]
    print(f"{'':36} layers  unsound  least lower  upper: median      90%    most  (seed)")
    for group in sorted({row.group for row in measured}):
        show(group, [row for row in measured if row.group == group])


def measure(seed: int) -> Iterable[Measured]:
    """Bounds one layer by default, and a convolution also on the torus."""
    drawn = random_layer(seed)
    true = true_norm(drawn)
    methods = {"default": linear_norms._UNROLLED_ENTRIES}
    if drawn.convolves:
        size = f"grid {'>=' if drawn.shortest_axis >= LARGE else '< '} {LARGE}"
        methods[f"torus, {size}{', dilated' if drawn.dilated else ''}"] = 0
    for method, entries in methods.items():
        kept, linear_norms._UNROLLED_ENTRIES = linear_norms._UNROLLED_ENTRIES, entries
        norm = operator_norms.operator_norm(drawn.layer, drawn.input_shape)
        linear_norms._UNROLLED_ENTRIES = kept
        group = f"{method}, {'convolutions' if drawn.convolves else 'others'}" if entries else method
        yield Measured(group, seed, norm.lower / true, norm.upper / true)


def show(group: str, rows: list[Measured]) -> None:
    unsound = sum(row.lower > 1 + RTOL_ROUNDING or row.upper < 1 - RTOL_ROUNDING for row in rows)
    uppers, loosest = [row.upper for row in rows], max(rows, key=lambda row: row.upper)
    print(
        f"{group:36} {len(rows):6}  {unsound:7}  {min(row.lower for row in rows):11.6f}  {np.median(uppers):13.4f}  "
        f"{np.quantile(uppers, 0.9):7.4f}  {loosest.upper:6.4f}  ({loosest.seed})",
        flush=True,
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else NUM_LAYERS)
