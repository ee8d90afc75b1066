"""L-BFGS without bounds; the only file that imports TensorFlow Probability, at its first use."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import tensorflow as tf

ValueAndGradient = Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]
"""From positions `[batch, n]` to the objective `[batch]` and its gradient `[batch, n]`."""

Progress = Any
"""The minimizer's state: `position`, `objective_value`, `num_iterations`, `converged`, `failed`, and its curvature pairs."""

_IMPORT_LOCK = threading.Lock()


def begin(
    value_and_gradient: ValueAndGradient, start: tf.Tensor, *, tolerance: float, num_correction_pairs: int = 20
) -> Progress:
    """Evaluates a smooth function at `start`: the state from which `resume` minimizes it, without bounds.

    Args:
        value_and_gradient: From a position `[n]` to a scalar and a gradient `[n]`.
        start: Float `[n]`.
        tolerance: Converged when no entry of the gradient is larger.
        num_correction_pairs: Curvature pairs to remember.

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
    """Goes on minimizing from where `progress` stands; `max_iterations` counts from the beginning."""
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
    # TFP loads `tfp.optimizer` at the first access, which is not safe from several threads. The first call may come while a
    # program is traced: `init_scope` keeps tensors that are made at import out of its graph.
    with _IMPORT_LOCK, tf.init_scope():
        import tensorflow_probability as tfp

        minimize: Callable[..., Progress] = tfp.optimizer.lbfgs_minimize
    return minimize
