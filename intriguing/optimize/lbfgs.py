"""L-BFGS without bounds; the only file that imports TensorFlow Probability, at its first use."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import tensorflow as tf

ValueAndGradient = Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]
"""A function from positions `[batch, n]` to the objective `[batch]` and its gradient `[batch, n]`."""

Progress = Any
"""The minimizer's state: `position`, `objective_value`, `num_iterations`, `converged`, `failed`, and its curvature pairs."""

_IMPORT_LOCK = threading.Lock()


def begin(
    value_and_gradient: ValueAndGradient, start: tf.Tensor, *, tolerance: float, num_correction_pairs: int = 20
) -> Progress:
    """Evaluates a smooth function at `start`, and returns the state from which `resume` minimizes it, without bounds.

    Args:
        value_and_gradient: A function from a position `[n]` to a scalar and a gradient `[n]`.
        start: Float `[n]`.
        tolerance: The minimizer has converged when no entry of the gradient is larger.
        num_correction_pairs: Curvature pairs that L-BFGS stores.

    Returns:
        The minimizer's state, with `position`, `objective_value`, `num_iterations`, `converged` and `failed`.
    """
    return lbfgs_minimizer()(
        value_and_gradient,
        initial_position=start,
        num_correction_pairs=num_correction_pairs,
        tolerance=tolerance,
        max_iterations=0,
    )


def resume(
    value_and_gradient: ValueAndGradient, progress: Progress, *, max_iterations: tf.Tensor, tolerance: float
) -> Progress:
    """Continues a minimization from the state `progress`; `max_iterations` includes the iterations of earlier calls."""
    return lbfgs_minimizer()(
        value_and_gradient,
        initial_position=None,
        previous_optimizer_results=progress,
        tolerance=tolerance,
        max_iterations=max_iterations,
        parallel_iterations=1,
    )


def lbfgs_minimizer() -> Callable[..., Progress]:
    """Returns `tfp.optimizer.lbfgs_minimize`; the first call imports TensorFlow Probability, which takes about a second."""
    # TFP loads `tfp.optimizer` at the first access, which is not thread-safe. A program may be traced during the first call:
    # `init_scope` prevents that tensors that TFP creates at import become part of its graph.
    with _IMPORT_LOCK, tf.init_scope():
        import tensorflow_probability as tfp

        minimize: Callable[..., Progress] = tfp.optimizer.lbfgs_minimize
    return minimize
