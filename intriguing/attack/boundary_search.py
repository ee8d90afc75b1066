"""The nearest point of the decision boundary, by sequential quadratic programming.

At the optimum of `c * sum(r**2) + cross_entropy` the image is not the nearest one of its class, since the cross-entropy also
depends on third classes. The nearest image solves another problem: minimize |r| such that the wanted logit is not below those
of its rivals. For linear logits, this is a small quadratic program with bounds. Each iteration linearizes the margins at a
point of the boundary, moves toward the solution of the quadratic program, and returns to the boundary along the ray from the
clean image. Constraints of earlier iterations are kept as long as the current point satisfies them, to describe kinks of the
boundary. Long steps first find the basin of a minimum; short steps then converge.

References:
    Brendel, Rauber, Kuemmerer, Ustyuzhaninov, Bethge, Accurate, reliable and fast robustness evaluation, 2019: a search along
    the boundary by trust-region problems. Croce, Hein, Minimally distorted adversarial examples with a fast adaptive boundary
    attack, 2020: projections onto a linearized boundary within bounds.
"""

from __future__ import annotations

import dataclasses
from math import isfinite, pi
from typing import NamedTuple

import tensorflow as tf

from intriguing.attack import objective
from intriguing.attack.boundary_problem import BoundaryPoint, BoundaryProblem
from intriguing.optimize.active_rows import run_in_slots
from intriguing.optimize.box_qp import NearestPoint, nearest_point
from intriguing.optimize.rows import replace_rows
from intriguing.pixels import PixelBox

_WIDEST_SCALE, _NARROWEST_SCALE = 0.3, 2e-4
_FIRST_SHARE, _LAST_SHARE = 1.0, 0.1
_NEARLY_CONVERGED = 0.1
_SOLVED = 10.0  # times the tolerance: how far the solution may violate constraints to be trusted
_SAME = 1e-3  # two distances count as equal if their relative difference is smaller
_LONGEST_STRETCH, _NUM_HALVINGS = 8.0, 10
_ALWAYS_MET = 1e9  # the offset of a constraint that every point satisfies


@dataclasses.dataclass(frozen=True, kw_only=True)
class BoundarySearch:
    """Settings of the search along the decision boundary.

    Attributes:
        num_starts: Maximum number of runs per image: one from the given start, the others from noisy copies of the clean image.
        num_agreeing: Number of runs that must converge to the same least distance before the remaining runs are skipped.
        long_steps: Steps at the beginning of a run, whose length decreases along a cosine. They are taken even if they do not
            reduce the distance.
        short_steps: Steps after the long ones, from the nearest point of the run.
        restart: Whether a run that has not converged after these steps restarts from its current point. If False, the search of
            an image ends there, provided that it has succeeded.
        num_rivals: Number of classes whose margins are linearized in a step; each costs one gradient.
        num_constraints: Number of linearized constraints that are kept, including those of the current step.
        scales: Points on the ray through the trial point at which a step evaluates the network, in increasing order: negative
            before it, positive beyond it, relative to half the length of the step. Each costs a forward pass.
        noise: Standard deviation of the noise of a start, relative to the width of the pixel box.
        tolerance: A run has converged if the quadratic program predicts a relative decrease of the distance of at most this.
        num_candidates: With `labels`, the number of candidate classes, the nearest ones first.
    """

    num_starts: int = 12
    num_agreeing: int = 2
    long_steps: int = 48
    short_steps: int = 8
    restart: bool = True
    num_rivals: int = 3
    num_constraints: int = 9
    scales: tuple[float, ...] = (-1.0, -0.4, -0.1, 0.0, 0.1, 0.4, 1.0, 3.0)
    noise: float = 0.35
    tolerance: float = 2e-4
    num_candidates: int = 2

    def __post_init__(self) -> None:
        for name in ("num_starts", "num_agreeing", "long_steps", "short_steps", "num_rivals", "num_candidates"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1; received {getattr(self, name)}.")
        if self.num_constraints < self.num_rivals:
            raise ValueError(
                f"num_constraints must be at least num_rivals, {self.num_rivals}; received {self.num_constraints}."
            )
        if not self.scales or list(self.scales) != sorted(self.scales):
            raise ValueError(f"scales must hold at least one number, in increasing order; received {self.scales}.")
        for name in ("noise", "tolerance"):
            if not getattr(self, name) > 0.0:
                raise ValueError(f"{name} must be positive; received {getattr(self, name)}.")


def search_boundary(
    network: objective.Network,
    weights: list[tf.Tensor],
    problem: BoundaryProblem,
    *,
    pixel_box: PixelBox,
    settings: BoundarySearch,
    num_rivals: int,
    num_slots: int,
    quantization_levels: int | None = None,
    num_rows: tf.Tensor | None = None,
    seed: tf.Tensor | int = 0,
    jit_compile: bool = False,
) -> BoundaryPoint:
    """Minimizes, for each row, |r| such that the logit of the wanted class exceeds those of its rivals.

    Args:
        network: From weights to a function from flat pixels `[batch, n]` to logits `[batch, classes]`.
        weights: The weights of the network.
        problem: The rows; `start` inside the box.
        pixel_box: The bounds of every pixel.
        settings: Starts, steps and tolerance.
        num_rivals: Number of rivals of every row, an upper limit for the number of linearized margins.
        num_slots: Rows that are active at once.
        quantization_levels: As in `DistortionSearch`: the network is evaluated, and lengths are measured, only at points whose
            values are levels. The iterates themselves are not rounded: short steps would be lost.
        num_rows: Int32 scalar: only the first `num_rows` rows are searched. If omitted, all rows.
        seed: Int32 scalar, the seed of the noise of the starts. As a tensor, it does not require another compiled program.
        jit_compile: Whether the loop over the steps is compiled with XLA.

    Returns:
        A `BoundaryPoint`, exactly inside the box; `length` is infinite unless `position` succeeds.
    """
    searcher = _Searcher(network, pixel_box, settings, min(settings.num_rivals, num_rivals), quantization_levels)
    noise = _noise_of_starts(settings, pixel_box, problem.clean.shape[1], seed)
    return run_in_slots(
        problem, shared=(weights, noise), begin=searcher.begin, step=searcher.step, result=searcher.result, num_slots=num_slots,
        num_rows=num_rows, jit_compile=jit_compile,
    )  # fmt: skip


class _State(NamedTuple):
    point: tf.Tensor  # [slots, n], the current point
    nearest: tf.Tensor  # [slots, n], the nearest success of all runs
    length: tf.Tensor  # [slots], its |r|
    nearest_of_run: tf.Tensor  # [slots, n]
    length_of_run: tf.Tensor  # [slots]
    normals: tf.Tensor  # [slots, constraints, n], the newest first
    offsets: tf.Tensor  # [slots, constraints]
    multipliers: tf.Tensor  # [slots, constraints]
    share: tf.Tensor  # [slots], length of a short step relative to the distance from its base to the ideal point
    step: tf.Tensor  # [slots] int32, within the run
    num_converged: tf.Tensor  # [slots] int32
    num_agreeing: tf.Tensor  # [slots] int32, runs that converged to the least length of all runs
    num_evaluations: tf.Tensor  # [slots] int32
    has_gradient: tf.Tensor  # [slots] bool: at some point, the gradient of a margin was not zero


@dataclasses.dataclass(frozen=True)
class _Searcher:
    network: objective.Network
    pixel_box: PixelBox
    settings: BoundarySearch
    num_rivals: int
    quantization_levels: int | None

    @property
    def cost(self) -> int:
        """Evaluations of one step: one for the gradient of each margin, and half of one for each forward pass."""
        return self.num_rivals + -(-len(self.settings.scales) // 2)

    def begin(self, problem: BoundaryProblem) -> _State:
        slots = problem.clean.shape[0]
        infinite = tf.fill([slots], float("inf"))
        zero = tf.zeros([slots], tf.int32)
        n, constraints = problem.clean.shape[1], self.settings.num_constraints
        return _State(
            point=problem.start, nearest=problem.start, length=infinite, nearest_of_run=problem.start,
            length_of_run=infinite, normals=tf.zeros([slots, constraints, n]),
            offsets=tf.fill([slots, constraints], _ALWAYS_MET), multipliers=tf.zeros([slots, constraints]),
            share=tf.ones([slots]), step=zero, num_converged=zero, num_agreeing=zero,
            num_evaluations=zero, has_gradient=tf.zeros([slots], tf.bool),
        )  # fmt: skip

    def result(self, state: _State) -> BoundaryPoint:
        converged = self._all_converged(state) & state.has_gradient
        return BoundaryPoint(self._legal(state.nearest), state.length, state.num_evaluations, converged)

    def _legal(self, points: tf.Tensor) -> tf.Tensor:
        """Returns the legal image at a point: within the box, and rounded to levels."""
        return self.pixel_box.legal(points, self.quantization_levels)

    def _all_converged(self, state: _State) -> tf.Tensor:
        return (state.num_converged >= self.settings.num_starts) | (state.num_agreeing >= self.settings.num_agreeing)

    def step(
        self, shared: tuple[list[tf.Tensor], tf.Tensor], problem: BoundaryProblem, state: _State
    ) -> tuple[_State, tf.Tensor]:
        """Takes one step in every slot. A row is finished if enough runs have converged or its budget is exhausted."""
        weights, noise = shared
        logits = problem.logits(self.network(weights))
        constraints = objective.linearize_margins(
            logits, self._legal(state.point), wanted=problem.wanted, rivals=problem.rivals, num_rivals=self.num_rivals
        )
        resolution = problem.scale.resolution(constraints.logits)
        affordable = state.num_evaluations + self.cost <= problem.max_evaluations
        # 1.5 times what success requires, so that rounding does not undo a step that ends on a constraint.
        margins = constraints.margins - 1.5 * resolution[:, tf.newaxis]
        short = state.step >= self.settings.long_steps
        base = replace_rows(short & tf.math.is_finite(state.length_of_run), state.nearest_of_run, state.point)
        state = self._remember(state, constraints.gradients, margins)
        solution = self._ideal(problem, state, base, tf.minimum(0.0, tf.reduce_min(margins, axis=1)))
        ideal = solution.position
        share = tf.where(short, state.share, self._share_of_long_step(state.step))
        trial = base + share[:, tf.newaxis] * (ideal - base)
        present, predicted, moved, distance = _lengths(
            self._legal(state.point) - problem.clean, self._legal(ideal) - problem.clean, trial - base, trial - problem.clean
        )
        succeeded = affordable & (constraints.margins[:, 0] > objective.SURELY * resolution)
        state = self._keep(state, state.point, tf.where(succeeded, present, float("inf")))
        found = tf.math.is_finite(state.length_of_run)
        # The prediction is trusted only near its own solution; there, a run that cannot become the nearest one ends as well.
        nearly = tf.abs(state.length_of_run - predicted) <= _NEARLY_CONVERGED * state.length_of_run
        solved = solution.residual <= _SOLVED * self.settings.tolerance * predicted
        converged = found & nearly & solved & (predicted >= (1.0 - self.settings.tolerance) * state.length)
        # Without a gradient a step has no direction; the next run begins at its noisy start.
        has_gradient = tf.reduce_any(constraints.gradients != 0.0, axis=[1, 2])
        converged |= ~has_gradient
        before, nearest_before = state.length_of_run, state.length
        point, succeeded = self._on_ray(logits, problem, trial - problem.clean, moved / (distance + 1e-20))
        (length,) = _lengths(self._legal(point) - problem.clean)
        state = self._keep(
            state._replace(point=point, multipliers=solution.multipliers), point,
            tf.where(affordable & succeeded, length, float("inf")),
        )  # fmt: skip
        nearer = state.length_of_run < (1.0 - 1e-6) * before
        adapted = tf.where(nearer, tf.minimum(1.0, 2.0 * state.share), tf.maximum(_LAST_SHARE, 0.5 * state.share))
        agrees = converged & (predicted <= (1.0 + _SAME) * state.length)
        outdone = state.length < (1.0 - _SAME) * nearest_before
        state = state._replace(
            share=tf.where(short & found, adapted, state.share),
            step=state.step + 1,
            num_converged=state.num_converged + tf.cast(converged, tf.int32),
            num_agreeing=tf.where(outdone, 0, state.num_agreeing) + tf.cast(agrees, tf.int32),
            num_evaluations=state.num_evaluations + tf.where(affordable, self.cost, 0),
            has_gradient=state.has_gradient | has_gradient,
        )
        finished = self._all_converged(state) | (state.num_evaluations + self.cost > problem.max_evaluations)
        finished |= tf.math.is_inf(state.length) & (state.num_evaluations >= problem.max_without_success)
        if not self.settings.restart:
            finished |= tf.math.is_finite(state.length) & (state.step >= self.settings.long_steps + self.settings.short_steps)
        return self._next_run(problem, noise, state, converged), finished

    def _remember(self, state: _State, normals: tf.Tensor, margins: tf.Tensor) -> _State:
        offsets = margins - tf.linalg.matvec(normals, self._legal(state.point))
        older = self.settings.num_constraints - self.num_rivals
        return state._replace(
            normals=tf.concat([normals, state.normals[:, :older]], axis=1),
            offsets=tf.concat([offsets, state.offsets[:, :older]], axis=1),
            # The multipliers of the previous step initialize those of the new constraints, which are the most similar.
            multipliers=tf.concat([state.multipliers[:, : self.num_rivals], state.multipliers[:, :older]], axis=1),
        )

    def _ideal(self, problem: BoundaryProblem, state: _State, base: tf.Tensor, shortfall: tf.Tensor) -> NearestPoint:
        """Returns the point nearest to the clean image that satisfies all constraints that the base point satisfies."""
        at_base = tf.linalg.matvec(state.normals, base) + state.offsets
        newest = tf.range(state.offsets.shape[1]) < self.num_rivals
        believed = newest | (at_base >= shortfall[:, tf.newaxis])
        offsets = tf.where(believed, state.offsets, _ALWAYS_MET)
        nearest = nearest_point(
            problem.clean,
            state.normals,
            offsets,
            pixel_box=self.pixel_box,
            multipliers=tf.where(believed, state.multipliers, 0.0),
            max_steps=3,
            tolerance=0.1 * self.settings.tolerance,
        )
        if self.quantization_levels is None:
            return nearest
        return nearest._replace(position=self._stretched(problem.clean, nearest.position, state.normals, offsets))

    def _stretched(self, clean: tf.Tensor, ideal: tf.Tensor, normals: tf.Tensor, offsets: tf.Tensor) -> tf.Tensor:
        """Moves along the ray through the ideal point until the image, rounded to levels, satisfies all constraints.

        Rounding removes changes of less than half a level. For one constraint, the nearest legal image is such a rounding.
        """
        direction = ideal - clean
        too_short, enough = tf.ones_like(clean[:, :1]), tf.fill(tf.shape(clean[:, :1]), _LONGEST_STRETCH)
        for _ in range(_NUM_HALVINGS):
            middle = tf.sqrt(too_short * enough)
            rounded = self._legal(clean + middle * direction)
            met = tf.reduce_min(tf.linalg.matvec(normals, rounded) + offsets, axis=1, keepdims=True) >= 0.0
            too_short, enough = tf.where(met, too_short, middle), tf.where(met, middle, enough)
        return clean + enough * direction

    def _on_ray(
        self, logits: objective.FlatLogits, problem: BoundaryProblem, direction: tf.Tensor, moved: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the first point on the ray from the clean image that succeeds, and whether there is one.

        If none succeeds, returns the one with the largest margin. The points lie around the end of `direction`. Their distances
        from it are proportional to `moved`, the length of the step relative to `direction`.
        """
        slots, n = direction.shape
        width = tf.clip_by_value(0.5 * moved, _NARROWEST_SCALE, _WIDEST_SCALE)
        scales = 1.0 + tf.constant(self.settings.scales)[:, tf.newaxis] * width
        candidates = self.pixel_box.clip(problem.clean + scales[:, :, tf.newaxis] * direction)
        values = logits(tf.reshape(self._legal(candidates), [len(self.settings.scales) * slots, n]))
        values = tf.reshape(values, [len(self.settings.scales), slots, -1])
        margin = objective.margin(values, problem.wanted, problem.rivals)
        succeeded = margin > objective.SURELY * problem.scale.resolution(values)
        first = tf.argmax(succeeded, axis=0, output_type=tf.int32)
        anywhere = tf.reduce_any(succeeded, axis=0)
        picked = tf.where(anywhere, first, tf.argmax(margin, axis=0, output_type=tf.int32))
        return tf.gather_nd(candidates, tf.stack([picked, tf.range(slots)], axis=1)), anywhere

    @staticmethod
    def _keep(state: _State, point: tf.Tensor, length: tf.Tensor) -> _State:
        """Keeps a point `[slots, n]` if it is nearer than those before; `length` is infinite if it does not succeed."""
        nearer, nearer_of_run = length < state.length, length < state.length_of_run
        return state._replace(
            nearest=replace_rows(nearer, point, state.nearest),
            length=tf.where(nearer, length, state.length),
            nearest_of_run=replace_rows(nearer_of_run, point, state.nearest_of_run),
            length_of_run=tf.where(nearer_of_run, length, state.length_of_run),
        )

    def _next_run(self, problem: BoundaryProblem, noise: tf.Tensor, state: _State, converged: tf.Tensor) -> _State:
        """Begins another run: at a new start for rows that have converged, at the current point after the last step."""
        over = converged | (state.step >= self.settings.long_steps + self.settings.short_steps)
        noisy = self.pixel_box.clip(problem.clean + tf.gather(noise, tf.minimum(state.num_converged, self.settings.num_starts)))
        start = replace_rows(converged, noisy, state.point)
        return state._replace(
            point=replace_rows(over, start, state.point),
            length_of_run=tf.where(over, float("inf"), state.length_of_run),
            offsets=tf.where(over[:, tf.newaxis], _ALWAYS_MET, state.offsets),  # removes the constraints
            multipliers=tf.where(over[:, tf.newaxis], 0.0, state.multipliers),
            share=tf.where(over, 1.0, state.share),
            step=tf.where(over, 0, state.step),
        )

    def _share_of_long_step(self, step: tf.Tensor) -> tf.Tensor:
        progress = tf.cast(step, tf.float32) / self.settings.long_steps
        return falling_along_a_cosine(_FIRST_SHARE, _LAST_SHARE, progress)


def _noise_of_starts(settings: BoundarySearch, pixel_box: PixelBox, num_pixels: int, seed: tf.Tensor | int) -> tf.Tensor:
    """Returns `[starts + 1, n]`, the same for every image, so that no result depends on the batch."""
    width = pixel_box.upper - pixel_box.lower
    scale = settings.noise * (width if isfinite(width) else 1.0)
    return scale * tf.random.stateless_normal([settings.num_starts + 1, num_pixels], [seed, 0], alg="philox")


def _lengths(*vectors: tf.Tensor) -> list[tf.Tensor]:
    """Returns the Euclidean length `[slots]` of each of the vectors `[slots, n]`, in one reduction."""
    return tf.unstack(tf.norm(tf.stack(vectors), axis=2))


def falling_along_a_cosine(first: float, last: float, progress: tf.Tensor) -> tf.Tensor:
    """Interpolates from `first` at progress 0 to `last` at progress 1 along half a cosine."""
    return last + (first - last) * 0.5 * (1.0 + tf.cos(pi * progress))
