"""The exact nearest image that a small rectifier network classifies as another class, in float64.

Between its kinks the network is linear, so the nearest image of one activation region is a quadratic program. The regions are
enumerated by branch and bound on the signs of hidden units. A node fixes some signs; linear bounds of the other units give a
relaxed program, whose value bounds every region of the node from below. A node is closed if that value is not below the length
of the nearest perturbation known, or if the network itself reaches the goal at the relaxed minimum. Networks of 20-20-20 units
take some hundred nodes an image, a fraction of a second.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from tests.oracles.linear_classifier import NearestImage
from tests.oracles.polytope_projection import Projection, project_origin
from tests.oracles.rectifier_network import LinearBounds, RectifierNetwork, UnitRanges, linear_upper_bounds, upper_bounds_in_box

_GAP = 1e-7  # nodes are closed within this share of the nearest perturbation known
_ROUNDING = 1e-9  # rounding of float64 sums relative to the logits, and of distances to kinks
_NUM_CUTS = 4  # programs per node at most; each is tight at the solution of the previous one


def nearest_of_class(
    network: RectifierNetwork, image: np.ndarray, target: int, lower: float = 0.0, upper: float = 1.0, **options: Any
) -> NearestImage:
    """Returns the nearest image where no class has a larger logit than `target`.

    Args:
        network: The network.
        image: `[n]`.
        target: The class to reach.
        lower: The smallest legal pixel value.
        upper: The largest.
        **options: `nearby`, known images of the goal, which save time and do not change the result. `max_nodes`, the largest
            number of nodes that are bounded; if it does not suffice, `floor` is below `length`.
    """
    classes = np.eye(network.num_classes)
    goal = np.delete(classes[target] - classes, target, axis=0)
    return _Search(network, image, goal, (lower, upper), **options).run()


def nearest_of_other_classes(
    network: RectifierNetwork, image: np.ndarray, label: int, lower: float = 0.0, upper: float = 1.0, **options: Any
) -> NearestImage:
    """Returns the nearest image where another class has a logit at least as large as `label`. Options are as above."""
    classes, logits = np.eye(network.num_classes), network.logits(image)
    nearest, floor = NearestImage(np.full(len(image), np.nan), np.inf, np.inf), np.inf
    for rival in sorted(set(range(network.num_classes)) - {label}, key=lambda rival: -logits[rival]):
        goal = (classes[rival] - classes[label])[np.newaxis]
        found = _Search(network, image, goal, (lower, upper), cutoff=nearest.length, **options).run()
        nearest, floor = min(nearest, found, key=lambda one: one.length), min(floor, found.floor)
    return nearest._replace(floor=floor)


class _Node(NamedTuple):
    signs: tuple[np.ndarray, ...]  # [units] of each hidden layer: 1, -1, or 0 for not fixed
    ranges: UnitRanges  # ranges of the units in the node, within the cutoff


class _Rows(NamedTuple):
    """Expressions that must be nonnegative: `rows @ layers[layer]`."""

    rows: np.ndarray
    layer: int


class _Search:
    """Branch and bound over the signs of hidden units. The node with the smallest bound is processed first.

    Args:
        network: The network.
        image: `[n]`.
        goal: `[rivals, classes]`: no entry of `goal @ logits` may be negative.
        box: The smallest and the largest legal pixel value.
        nearby: Initial images.
        max_nodes: The largest number of nodes that are bounded.
        cutoff: The largest length of perturbations.
    """

    def __init__(
        self,
        network: RectifierNetwork,
        image: np.ndarray,
        goal: np.ndarray,
        box: tuple[float, float],
        *,
        nearby: Sequence[np.ndarray] = (),
        max_nodes: int = 10**6,
        cutoff: float = np.inf,
    ):
        self.network = RectifierNetwork(*(tuple(np.asarray(part, np.float64) for part in parts) for parts in network))
        self.image, self.goal, self.box = np.asarray(image, np.float64), goal, box
        self.max_nodes, self.cutoff = max_nodes, cutoff
        self.nearest, self.length = np.full(len(self.image), np.nan), np.inf
        self.num_nodes, self.unresolved = 0, np.inf
        self.visited: set[bytes] = set()  # the regions whose nearest image is known
        self.queue: list[tuple[float, int, _Node, tuple[int, int]]] = []
        for start in nearby:
            self.descend(np.asarray(start, np.float64))

    @property
    def enough(self) -> float:
        """The bound at which a node is closed."""
        return (1.0 - _GAP) * min(self.length, self.cutoff)

    def run(self) -> NearestImage:
        """Returns the nearest image; no image of the goal is nearer than `floor`."""
        sizes = [len(bias) for bias in self.network.biases[:-1]]
        anything = UnitRanges(*(tuple(np.full(size, value) for size in sizes) for value in (-np.inf, np.inf)))
        self.add(_Node(tuple(np.zeros(size, int) for size in sizes), anything), 0.0)
        while self.queue and self.queue[0][0] < self.enough and self.num_nodes < self.max_nodes:
            floor, _, node, (layer, unit) = heapq.heappop(self.queue)
            for sign in (1, -1):
                signs = tuple(part.copy() for part in node.signs)
                signs[layer][unit] = sign
                self.add(_Node(signs, node.ranges), floor)
        floor = min(self.enough, self.unresolved, self.queue[0][0] if self.queue else np.inf)
        return NearestImage(self.nearest, self.length, floor)

    def add(self, node: _Node, known_floor: float) -> None:
        """Bounds a node, and queues it unless it is closed."""
        self.num_nodes += 1
        node = node._replace(ranges=self.narrowed(node))
        if any(np.any(low > high) for low, high in zip(*node.ranges, strict=True)):
            return
        floor, image = self.relaxed_minimum(node)
        if floor >= self.enough:
            return
        self.descend(image)
        if self.satisfied(image):
            return
        choice = self.unit_to_fix(node, image)
        if choice is None:  # the program is exact up to rounding
            self.unresolved = min(self.unresolved, max(floor, known_floor))
        else:
            heapq.heappush(self.queue, (max(floor, known_floor), self.num_nodes, node, choice))

    def satisfied(self, image: np.ndarray) -> bool:
        """Returns whether the network satisfies the goal at the image, up to rounding."""
        logits = self.network.logits(image)
        return bool(np.all(self.goal @ logits >= -_ROUNDING * (1.0 + np.max(np.abs(logits)))))

    def narrowed(self, node: _Node) -> UnitRanges:
        """Returns the ranges of the units in the node, in the box, and in the ball of the cutoff."""
        lows, highs = list(node.ranges.lows), list(node.ranges.highs)
        radius = min(self.length, self.cutoff)
        for layer, signs in enumerate(node.signs):
            both_ways = np.concatenate([np.eye(len(signs)), -np.eye(len(signs))])
            bounds = linear_upper_bounds(self.network, both_ways, layer, UnitRanges(tuple(lows), tuple(highs)))
            high, low = np.split(upper_bounds_in_box(bounds, self.image, *self.box, radius), 2)
            highs[layer] = np.minimum(np.minimum(highs[layer], high), np.where(signs < 0, 0.0, np.inf))
            lows[layer] = np.maximum(np.maximum(lows[layer], -low), np.where(signs > 0, 0.0, -np.inf))
        return UnitRanges(tuple(lows), tuple(highs))

    def demands(self, signs: Sequence[np.ndarray]) -> list[_Rows]:
        """Returns the expressions that must be nonnegative: the goal, and units with a fixed sign times their sign."""
        fixed = [_Rows(np.diag(part)[part != 0], layer) for layer, part in enumerate(signs)]
        return [_Rows(self.goal, len(self.network.kernels) - 1), *(part for part in fixed if len(part.rows))]

    def bounds_of(self, demands: Sequence[_Rows], ranges: UnitRanges, image: np.ndarray | None = None) -> LinearBounds:
        """Returns linear bounds of the nonnegative expressions that are as tight as possible at the image."""
        near = None if image is None else self.network.layers(image)
        parts = [linear_upper_bounds(self.network, *part, ranges, near) for part in demands]
        return LinearBounds(*(np.concatenate(side) for side in zip(*(part[:2] for part in parts), strict=True)), {})

    def project(self, bounds: LinearBounds) -> Projection:
        """Returns the nearest image with nonnegative bounds."""
        offsets = -(bounds.normals @ self.image + bounds.constants)
        lower, upper = (bound - self.image for bound in self.box)
        found = project_origin(bounds.normals, offsets, lower, upper)
        return found._replace(point=self.image + found.point)

    def relaxed_minimum(self, node: _Node) -> tuple[float, np.ndarray]:
        """Returns a lower bound of the lengths in the node, and the minimum of the relaxed program."""
        demands = self.demands(node.signs)
        cuts = self.bounds_of(demands, node.ranges)
        found = self.project(cuts)
        floor = found.floor
        for _ in range(_NUM_CUTS - 1):
            if floor >= self.enough:
                break
            more = self.bounds_of(demands, node.ranges, found.point)
            violated = more.normals @ found.point + more.constants < -_ROUNDING * (1.0 + np.abs(more.constants))
            if not violated.any():
                break
            cuts = LinearBounds(*(np.concatenate([old, new[violated]]) for old, new in zip(cuts[:2], more[:2])), {})
            found = self.project(cuts)
            floor = max(floor, found.floor)
        return floor, found.point

    def unit_to_fix(self, node: _Node, image: np.ndarray) -> tuple[int, int] | None:
        """Returns (layer, unit) of the unstable unit whose relaxation contributes most to constraints violated at the image."""
        near = self.network.layers(image)
        scores = [np.minimum(-low, high) * 1e-9 for low, high in zip(*node.ranges, strict=True)]
        for rows, layer in self.demands(node.signs):
            rows = rows[rows @ near[layer] < 0.0]
            bounds = linear_upper_bounds(self.network, rows, layer, node.ranges, near)
            sizes = np.maximum(np.linalg.norm(bounds.normals, axis=1), 1e-12)
            for index, gaps in bounds.gaps.items():
                scores[index] = scores[index] + np.sum(gaps / sizes[:, np.newaxis], axis=0)
        candidates = [
            (score, layer, unit)
            for layer, part in enumerate(scores)
            for unit, score in enumerate(part)
            if node.ranges.unstable(layer)[unit]
        ]
        return max(candidates)[1:] if candidates else None

    def descend(self, image: np.ndarray) -> None:
        """Moves to neighboring regions as long as the nearest image of the region becomes nearer."""
        signs = [np.where(units > 0.0, 1, -1) for units in self.network.layers(image)[:-1]]
        while (region := b"".join(part.tobytes() for part in signs)) not in self.visited:
            self.visited.add(region)
            found = self.nearest_of_region(signs)
            length = float(np.linalg.norm(found.point - self.image))
            if not length < self.enough or not self.satisfied(found.point):
                return
            self.nearest, self.length = found.point, length
            neighbors = self.neighbors(signs, found.point)
            if not neighbors:
                return
            signs = min(neighbors, key=lambda other: self.nearest_of_region(other).floor)

    def neighbors(self, signs: Sequence[np.ndarray], image: np.ndarray) -> list[list[np.ndarray]]:
        """Returns the signs of the regions across the kinks on which the image lies."""
        found = []
        for layer, units in enumerate(self.network.layers(image)[:-1]):
            for unit in np.flatnonzero(np.abs(units) <= 100 * _ROUNDING):
                flipped = [part.copy() for part in signs]
                flipped[layer][unit] *= -1
                found.append(flipped)
        return found

    def nearest_of_region(self, signs: Sequence[np.ndarray]) -> Projection:
        """Returns the nearest image of the goal in an activation region."""
        lows = tuple(np.where(part > 0, 0.0, -1.0) for part in signs)
        ranges = UnitRanges(lows, tuple(low + 1.0 for low in lows))
        return self.project(self.bounds_of(self.demands(signs), ranges))
