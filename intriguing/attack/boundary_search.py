"""The nearest point of the decision boundary, where cross-entropy stops short: a walk along the boundary.

At the optimum of `c * |r|**2 + cross_entropy` the image is not the nearest of its class: cross-entropy also pushes away from
classes that are no threat. The nearest image solves another problem, least |r| such that the wanted logit is not below its
rivals, which is a small quadratic program wherever the logits are linear. So each step of the walk linearizes the margins at a
point of the boundary, goes toward the nearest image of that linear world, and returns to the boundary along the ray from the
clean image. Planes of the last steps are remembered as long as they do not contradict the present point: together they see
kinks that one plane does not. Long steps come first and find the valley, short ones later find its ground.
"""

from __future__ import annotations

import dataclasses
from math import isfinite, pi
from typing import NamedTuple

import tensorflow as tf

from intriguing.attack import objective
from intriguing.attack.boundary_problem import BoundaryPoint, BoundaryProblem
from intriguing.optimize.active_rows import run_in_lanes
from intriguing.optimize.box_qp import NearestPoint, nearest_point
from intriguing.optimize.rows import replace_rows
from intriguing.pixels import PixelBox

_WIDEST_SCALE, _NARROWEST_SCALE = 0.3, 2e-4
_FIRST_SHARE, _LAST_SHARE = 1.0, 0.1
_NEARLY_ARRIVED = 0.1
_SOLVED = 10.0  # times the tolerance: how far planes may be from being met for the answer to be believed
_SAME = 1e-3  # two distances that differ by a smaller share are one
_LONGEST_STRETCH, _NUM_HALVINGS = 8.0, 10
_NEVER_MET = 1e9  # the offset of a plane so far away that it asks for nothing


@dataclasses.dataclass(frozen=True, kw_only=True)
class BoundaryWalk:
    """How the neighborhood of an image is searched for the nearest point of the decision boundary.

    Attributes:
        num_starts: Walks per image at most: the first from the given start, the others from noisy copies of the clean image.
            A walk that arrives nowhere goes on from where it is until the budget is spent, unless it is to go `once`.
        num_agreeing: Walks that must lead to the same least distance before the rest are spared.
        long_steps: Steps of a walk whose length falls along a cosine, taken whether or not they bring the image nearer.
        short_steps: Steps after those, from the nearest point so far.
        once: A walk that found something ends with its steps, and does not begin them anew from where it is.
        num_rivals: Classes whose margins are linearized in a step, each for the price of one gradient.
        num_planes: Planes that are remembered, those of the present step included.
        scales: Where a step looks for the boundary on the ray through its trial point, in order: shares of the step, before
            and beyond that point. Each costs a forward pass.
        noise: Standard deviation of the noise of a start, as a share of the width of the pixel box.
        tolerance: A walk has arrived when the linear world promises no more than this share of the distance.
        num_candidates: Of the classes to go to when any will do, how many are tried, the most promising first.
        seed: Of the noise.
    """

    num_starts: int = 12
    num_agreeing: int = 2
    long_steps: int = 48
    short_steps: int = 8
    once: bool = False
    num_rivals: int = 3
    num_planes: int = 9
    scales: tuple[float, ...] = (-1.0, -0.4, -0.1, 0.0, 0.1, 0.4, 1.0, 3.0)
    noise: float = 0.35
    tolerance: float = 2e-4
    num_candidates: int = 2
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("num_starts", "num_agreeing", "long_steps", "short_steps", "num_rivals", "num_candidates"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1; received {getattr(self, name)}.")
        if self.num_planes < self.num_rivals:
            raise ValueError(f"num_planes must be at least num_rivals, {self.num_rivals}; received {self.num_planes}.")
        if not self.scales or list(self.scales) != sorted(self.scales):
            raise ValueError(f"scales must be at least one, in increasing order; received {self.scales}.")
        for name in ("noise", "tolerance"):
            if not getattr(self, name) > 0.0:
                raise ValueError(f"{name} must be positive; received {getattr(self, name)}.")


def walk_the_boundary(
    network: objective.Network,
    weights: list[tf.Tensor],
    problem: BoundaryProblem,
    *,
    pixel_box: PixelBox,
    walk: BoundaryWalk,
    num_rivals: int,
    num_lanes: int,
    quantization_levels: int | None = None,
    num_rows: tf.Tensor | None = None,
    jit_compile: bool = False,
) -> BoundaryPoint:
    """Searches, for each row, for the least |r| at which the wanted class beats its rivals.

    Args:
        network: From weights to a function from flat pixels `[batch, n]` to logits `[batch, classes]`.
        weights: Of the network.
        problem: The rows; `start` inside the box.
        pixel_box: The bounds of every pixel.
        walk: Starts, steps and tolerance.
        num_rivals: How many rivals every row has; so many margins at most are linearized.
        num_lanes: Rows in work at once.
        quantization_levels: As in `DistortionSearch`: the network is only evaluated, and lengths are only measured, at points
            whose values are levels. The iterates themselves lie between levels, or the search could not leave the first one.
        num_rows: Int32 scalar: only so many of the rows, the first ones, are searched. All rows if omitted.
        jit_compile: Whether the loop over the steps is compiled with XLA.

    Returns:
        A `BoundaryPoint`, exactly inside the box; `length` is infinite unless the wanted class won at `position`.
    """
    walker = _Walker(network, pixel_box, walk, min(walk.num_rivals, num_rivals), quantization_levels)
    noise = _noise_of_starts(walk, pixel_box, problem.clean.shape[1])
    return run_in_lanes(
        problem, shared=(weights, noise), begin=walker.begin, step=walker.step, result=walker.result, num_lanes=num_lanes,
        num_rows=num_rows, jit_compile=jit_compile,
    )  # fmt: skip


class _State(NamedTuple):
    point: tf.Tensor  # [lanes, n], the present point
    nearest: tf.Tensor  # [lanes, n], the nearest success of all walks
    length: tf.Tensor  # [lanes], its |r|
    nearest_of_walk: tf.Tensor  # [lanes, n]
    length_of_walk: tf.Tensor  # [lanes]
    normals: tf.Tensor  # [lanes, planes, n], the newest first
    offsets: tf.Tensor  # [lanes, planes]
    multipliers: tf.Tensor  # [lanes, planes]
    share: tf.Tensor  # [lanes], of the way to the trial point that a short step goes
    step: tf.Tensor  # [lanes] int32, within the walk
    num_arrivals: tf.Tensor  # [lanes] int32
    num_agreeing: tf.Tensor  # [lanes] int32, arrivals at the nearest point of all
    num_evaluations: tf.Tensor  # [lanes] int32
    has_gradient: tf.Tensor  # [lanes] bool: at some point, the margins changed with the pixels


@dataclasses.dataclass(frozen=True)
class _Walker:
    network: objective.Network
    pixel_box: PixelBox
    walk: BoundaryWalk
    num_rivals: int
    quantization_levels: int | None

    @property
    def cost(self) -> int:
        """Evaluations of one step: a gradient for each margin, and half for each forward pass alone."""
        return self.num_rivals + -(-len(self.walk.scales) // 2)

    def begin(self, problem: BoundaryProblem) -> _State:
        lanes = problem.clean.shape[0]
        infinite = tf.fill([lanes], float("inf"))
        zero = tf.zeros([lanes], tf.int32)
        n, planes = problem.clean.shape[1], self.walk.num_planes
        return _State(
            point=problem.start, nearest=problem.start, length=infinite, nearest_of_walk=problem.start,
            length_of_walk=infinite, normals=tf.zeros([lanes, planes, n]), offsets=tf.fill([lanes, planes], _NEVER_MET),
            multipliers=tf.zeros([lanes, planes]), share=tf.ones([lanes]), step=zero, num_arrivals=zero, num_agreeing=zero,
            num_evaluations=zero, has_gradient=tf.zeros([lanes], tf.bool),
        )  # fmt: skip

    def result(self, state: _State) -> BoundaryPoint:
        arrived = self._all_arrived(state) & state.has_gradient
        return BoundaryPoint(self._legal(state.nearest), state.length, state.num_evaluations, arrived)

    def _legal(self, points: tf.Tensor) -> tf.Tensor:
        """The image that a point stands for."""
        return self.pixel_box.legal(points, self.quantization_levels)

    def _all_arrived(self, state: _State) -> tf.Tensor:
        return (state.num_arrivals >= self.walk.num_starts) | (state.num_agreeing >= self.walk.num_agreeing)

    def step(
        self, shared: tuple[list[tf.Tensor], tf.Tensor], problem: BoundaryProblem, state: _State
    ) -> tuple[_State, tf.Tensor]:
        """One step of every lane; a lane is finished when it has arrived often enough or cannot pay for another step."""
        weights, noise = shared
        logits = problem.logits(self.network(weights))
        planes = objective.linearize_margins(
            logits, self._legal(state.point), wanted=problem.wanted, rivals=problem.rivals, num_rivals=self.num_rivals
        )
        resolution = problem.scale.resolution(planes.logits)
        affordable = state.num_evaluations + self.cost <= problem.max_evaluations
        # 1.5 times what success asks for, so that rounding does not undo a step that ends on a plane.
        margins = planes.margins - 1.5 * resolution[:, tf.newaxis]
        short = state.step >= self.walk.long_steps
        base = replace_rows(short & tf.math.is_finite(state.length_of_walk), state.nearest_of_walk, state.point)
        state = self._remember(state, planes.gradients, margins)
        solution = self._ideal(problem, state, base, tf.minimum(0.0, tf.reduce_min(margins, axis=1)))
        ideal = solution.position
        share = tf.where(short, state.share, self._share_of_long_step(state.step))
        trial = base + share[:, tf.newaxis] * (ideal - base)
        present, promised, moved, distance = _lengths(
            self._legal(state.point) - problem.clean, self._legal(ideal) - problem.clean, trial - base, trial - problem.clean
        )
        reached = affordable & (planes.margins[:, 0] > objective.SURELY * resolution)
        state = self._keep(state, state.point, tf.where(reached, present, float("inf")))
        found = tf.math.is_finite(state.length_of_walk)
        # The linear world is believed near its own answer only; there, a walk that cannot win is over as well.
        nearly = tf.abs(state.length_of_walk - promised) <= _NEARLY_ARRIVED * state.length_of_walk
        solved = solution.residual <= _SOLVED * self.walk.tolerance * promised
        arrived = found & nearly & solved & (promised >= (1.0 - self.walk.tolerance) * state.length)
        # Without a gradient no step leads anywhere; the next walk begins at its noisy start.
        has_gradient = tf.reduce_any(planes.gradients != 0.0, axis=[1, 2])
        arrived |= ~has_gradient
        before, nearest_before = state.length_of_walk, state.length
        point, reached = self._on_ray(logits, problem, trial - problem.clean, moved / (distance + 1e-20))
        (length,) = _lengths(self._legal(point) - problem.clean)
        state = self._keep(
            state._replace(point=point, multipliers=solution.multipliers), point,
            tf.where(affordable & reached, length, float("inf")),
        )  # fmt: skip
        nearer = state.length_of_walk < (1.0 - 1e-6) * before
        adapted = tf.where(nearer, tf.minimum(1.0, 2.0 * state.share), tf.maximum(_LAST_SHARE, 0.5 * state.share))
        agrees = arrived & (promised <= (1.0 + _SAME) * state.length)
        outdone = state.length < (1.0 - _SAME) * nearest_before
        state = state._replace(
            share=tf.where(short & found, adapted, state.share),
            step=state.step + 1,
            num_arrivals=state.num_arrivals + tf.cast(arrived, tf.int32),
            num_agreeing=tf.where(outdone, 0, state.num_agreeing) + tf.cast(agrees, tf.int32),
            num_evaluations=state.num_evaluations + tf.where(affordable, self.cost, 0),
            has_gradient=state.has_gradient | has_gradient,
        )
        finished = self._all_arrived(state) | (state.num_evaluations + self.cost > problem.max_evaluations)
        finished |= tf.math.is_inf(state.length) & (state.num_evaluations >= problem.max_fruitless)
        if self.walk.once:
            finished |= tf.math.is_finite(state.length) & (state.step >= self.walk.long_steps + self.walk.short_steps)
        return self._next_walk(problem, noise, state, arrived), finished

    def _remember(self, state: _State, normals: tf.Tensor, margins: tf.Tensor) -> _State:
        offsets = margins - tf.linalg.matvec(normals, self._legal(state.point))
        older = self.walk.num_planes - self.num_rivals
        return state._replace(
            normals=tf.concat([normals, state.normals[:, :older]], axis=1),
            offsets=tf.concat([offsets, state.offsets[:, :older]], axis=1),
            # The new planes take over from those of the step before, whose pushes they most resemble.
            multipliers=tf.concat([state.multipliers[:, : self.num_rivals], state.multipliers[:, :older]], axis=1),
        )

    def _ideal(self, problem: BoundaryProblem, state: _State, base: tf.Tensor, shortfall: tf.Tensor) -> NearestPoint:
        """The nearest point to the clean image on the right side of all planes that do not contradict the base point."""
        at_base = tf.linalg.matvec(state.normals, base) + state.offsets
        newest = tf.range(state.offsets.shape[1]) < self.num_rivals
        believed = newest | (at_base >= shortfall[:, tf.newaxis])
        offsets = tf.where(believed, state.offsets, _NEVER_MET)
        nearest = nearest_point(
            problem.clean,
            state.normals,
            offsets,
            pixel_box=self.pixel_box,
            multipliers=tf.where(believed, state.multipliers, 0.0),
            max_steps=3,
            tolerance=0.1 * self.walk.tolerance,
        )
        if self.quantization_levels is None:
            return nearest
        return nearest._replace(position=self._stretched(problem.clean, nearest.position, state.normals, offsets))

    def _stretched(self, clean: tf.Tensor, ideal: tf.Tensor, normals: tf.Tensor, offsets: tf.Tensor) -> tf.Tensor:
        """Goes on toward the ideal point and beyond, until the rounding to levels is on the right side of all planes, too.

        What changes by less than half a level is lost. With one plane, the nearest image of levels is such a rounding.
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
        """Returns the first point on the ray from the clean image at which the wanted class wins, and whether there is one.

        Otherwise it is the point where the margin is largest. The points lie around the end of `direction`, within a share of
        its length: half of the share `moved` that the step went.
        """
        lanes, n = direction.shape
        width = tf.clip_by_value(0.5 * moved, _NARROWEST_SCALE, _WIDEST_SCALE)
        scales = 1.0 + tf.constant(self.walk.scales)[:, tf.newaxis] * width
        candidates = self.pixel_box.clip(problem.clean + scales[:, :, tf.newaxis] * direction)
        values = logits(tf.reshape(self._legal(candidates), [len(self.walk.scales) * lanes, n]))
        values = tf.reshape(values, [len(self.walk.scales), lanes, -1])
        margin = objective.margin(values, problem.wanted, problem.rivals)
        reached = margin > objective.SURELY * problem.scale.resolution(values)
        first = tf.argmax(reached, axis=0, output_type=tf.int32)
        anywhere = tf.reduce_any(reached, axis=0)
        picked = tf.where(anywhere, first, tf.argmax(margin, axis=0, output_type=tf.int32))
        return tf.gather_nd(candidates, tf.stack([picked, tf.range(lanes)], axis=1)), anywhere

    @staticmethod
    def _keep(state: _State, point: tf.Tensor, length: tf.Tensor) -> _State:
        """Keeps a success `[lanes, n]` where it is nearer than those before; `length` is infinite where it is none."""
        nearer, nearer_of_walk = length < state.length, length < state.length_of_walk
        return state._replace(
            nearest=replace_rows(nearer, point, state.nearest),
            length=tf.where(nearer, length, state.length),
            nearest_of_walk=replace_rows(nearer_of_walk, point, state.nearest_of_walk),
            length_of_walk=tf.where(nearer_of_walk, length, state.length_of_walk),
        )

    def _next_walk(self, problem: BoundaryProblem, noise: tf.Tensor, state: _State, arrived: tf.Tensor) -> _State:
        """Begins another walk: at a new start for rows that have arrived, at the present point for those out of steps."""
        over = arrived | (state.step >= self.walk.long_steps + self.walk.short_steps)
        noisy = self.pixel_box.clip(problem.clean + tf.gather(noise, tf.minimum(state.num_arrivals, self.walk.num_starts)))
        start = replace_rows(arrived, noisy, state.point)
        return state._replace(
            point=replace_rows(over, start, state.point),
            length_of_walk=tf.where(over, float("inf"), state.length_of_walk),
            offsets=tf.where(over[:, tf.newaxis], _NEVER_MET, state.offsets),  # which forgets the planes
            multipliers=tf.where(over[:, tf.newaxis], 0.0, state.multipliers),
            share=tf.where(over, 1.0, state.share),
            step=tf.where(over, 0, state.step),
        )

    def _share_of_long_step(self, step: tf.Tensor) -> tf.Tensor:
        progress = tf.cast(step, tf.float32) / self.walk.long_steps
        return falling_along_a_cosine(_FIRST_SHARE, _LAST_SHARE, progress)


def _noise_of_starts(walk: BoundaryWalk, pixel_box: PixelBox, num_pixels: int) -> tf.Tensor:
    """Returns `[starts + 1, n]`: the same noise for every image, so that an image does not depend on its batch."""
    width = pixel_box.upper - pixel_box.lower
    scale = walk.noise * (width if isfinite(width) else 1.0)
    return scale * tf.random.stateless_normal([walk.num_starts + 1, num_pixels], [walk.seed, 0], alg="philox")


def _lengths(*vectors: tf.Tensor) -> list[tf.Tensor]:
    """Returns the Euclidean length `[lanes]` of each of the vectors `[lanes, n]`, in one reduction."""
    return tf.unstack(tf.norm(tf.stack(vectors), axis=2))


def falling_along_a_cosine(first: float, last: float, progress: tf.Tensor) -> tf.Tensor:
    """Returns `first` at progress 0, `last` at 1, and between them half a cosine."""
    return last + (first - last) * 0.5 * (1.0 + tf.cos(pi * progress))
