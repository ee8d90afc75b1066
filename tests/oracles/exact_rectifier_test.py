"""Tests of the oracle against the enumeration of all regions, against grids, and on linear networks."""

import itertools

import numpy as np
import pytest

pytest.importorskip("scipy", reason="the exact distance needs SciPy (extra test)")

from tests.oracles import linear_classifier
from tests.oracles.exact_rectifier import nearest_of_class, nearest_of_other_classes
from tests.oracles.polytope_projection import project_origin
from tests.oracles.rectifier_network import (
    RectifierNetwork,
    UnitRanges,
    linear_upper_bounds,
    random_network,
    upper_bounds_in_box,
)

RTOL_GAP = 1e-6  # nodes are closed within 1e-7
RTOL_SOLVER = 1e-6  # tolerance of the linear oracle


def affine_of_region(network, signs):
    """Returns the layers as `image @ matrix + offset` in the region of the given signs of hidden units."""
    matrix, offset, found = np.eye(len(network.kernels[0])), np.zeros(len(network.kernels[0])), []
    for kernel, bias, on in zip(network.kernels, network.biases, [*signs, None]):
        matrix, offset = matrix @ kernel, offset @ kernel + bias
        found.append((matrix, offset))
        if on is not None:
            matrix, offset = matrix * on, offset * on
    return found


def nearest_of_all_regions(network, image, goal):
    """Solves the program of every region, that is, of all combinations of signs."""
    sizes, best = [len(bias) for bias in network.biases[:-1]], np.inf
    for choice in itertools.product([False, True], repeat=sum(sizes)):
        signs = np.split(np.array(choice), np.cumsum(sizes)[:-1])
        *hidden, (matrix, offset) = affine_of_region(network, signs)
        rows = [goal @ matrix.T, *((part.T * np.where(on, 1, -1)[:, None]) for (part, _), on in zip(hidden, signs))]
        sides = [goal @ offset, *(part * np.where(on, 1, -1) for (_, part), on in zip(hidden, signs))]
        normals, constants = np.concatenate(rows), np.concatenate(sides)
        best = min(best, project_origin(normals, -(normals @ image + constants), -image, 1 - image).floor)
    return best


def goal_of_class(target, num_classes):
    return np.delete(np.eye(num_classes)[target] - np.eye(num_classes), target, axis=0)


@pytest.mark.parametrize("sizes", [(3, 6, 3), (4, 4, 3, 3), (3, 2, 2, 2, 4)], ids=str)
def test_result_equals_the_best_of_all_regions(sizes):
    rng, num_moved = np.random.default_rng(0), 0
    for seed in range(4):
        network, image = random_network(sizes, seed), rng.uniform(size=sizes[0])
        label = int(np.argmax(network.logits(image)))
        every = [nearest_of_all_regions(network, image, goal_of_class(target, sizes[-1])) for target in range(sizes[-1])]
        for target, exact in enumerate(every):
            found = nearest_of_class(network, image, target)
            assert found.length == pytest.approx(exact, rel=RTOL_GAP)
            assert exact * (1 - RTOL_GAP) <= found.floor <= exact if exact > 0 else found.floor == 0
            num_moved += bool(0 < exact < np.inf)
        pairs = [np.eye(sizes[-1])[[rival]] - np.eye(sizes[-1])[[label]] for rival in range(sizes[-1]) if rival != label]
        exact = min(nearest_of_all_regions(network, image, pair) for pair in pairs)
        assert nearest_of_other_classes(network, image, label).length == pytest.approx(exact, rel=RTOL_GAP)
    assert num_moved >= 5


def test_image_lies_in_the_box_and_class_at_its_length():
    network = random_network((20, 12, 12, 4))
    for image in np.random.default_rng(1).uniform(size=(8, 20)):
        target = int(np.argsort(network.logits(image))[-2])
        found = nearest_of_class(network, image, target)
        logits = network.logits(found.image)
        assert np.all((found.image >= 0) & (found.image <= 1))
        assert logits[target] >= logits.max() - 1e-8
        assert np.linalg.norm(found.image - image) == pytest.approx(found.length, rel=1e-12)
        assert found.length * (1 - RTOL_GAP) <= found.floor <= found.length


def test_grid_search_finds_no_nearer_image_and_one_at_nearly_the_same_distance():
    axis = np.linspace(0, 1, 401)
    grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    num_moved = 0
    for seed in range(10):
        network = random_network((2, 8, 8, 3), seed)
        image, classes = np.array([0.3, 0.6]), np.argmax(network.logits(grid), axis=1)
        for target in range(3):
            found, in_class = nearest_of_class(network, image, target), grid[classes == target]
            nearest = np.min(np.linalg.norm(in_class - image, axis=1), initial=np.inf)
            assert found.floor <= nearest
            num_moved += bool(0.01 < nearest < np.inf)
            assert nearest <= found.length + 0.01 or not np.isfinite(nearest)
    assert num_moved >= 8


@pytest.mark.parametrize("hidden", [(), (6,), (6, 6)], ids=str)
def test_result_equals_the_linear_oracle_for_linear_networks(hidden):
    rng = np.random.default_rng(2)
    kernel, bias = rng.normal(size=(6, 4)), rng.normal(size=4)
    always_on = [np.eye(6) for _ in hidden], [np.zeros(6) for _ in hidden]
    network = RectifierNetwork((*always_on[0], kernel), (*always_on[1], bias))
    linear = linear_classifier.LinearClassifier(kernel, bias)
    for image in rng.uniform(size=(6, 6)):
        label = int(np.argmax(network.logits(image)))
        for target in range(4):
            exact = linear_classifier.nearest_of_class(linear, image, target).floor
            assert nearest_of_class(network, image, target).length == pytest.approx(exact, rel=RTOL_SOLVER, abs=1e-7)
        exact = linear_classifier.nearest_of_other_classes(linear, image, label).floor
        assert nearest_of_other_classes(network, image, label).length == pytest.approx(exact, rel=RTOL_SOLVER)


def test_result_equals_the_closed_form_of_two_linear_classes():
    rng = np.random.default_rng(3)
    for _ in range(10):
        linear, image = linear_classifier.random_classifier(rng, 8, 2), rng.uniform(size=8)
        target = int(np.argmin(linear.logits(image)))
        network = RectifierNetwork((linear.kernel,), (linear.bias,))
        found = nearest_of_class(network, image, target, lower=-100.0, upper=100.0)
        assert found.length == pytest.approx(linear_classifier.two_class_closed_form(linear, image, target), rel=RTOL_GAP)


def test_initial_image_does_not_change_the_result():
    network = random_network((10, 8, 8, 3))
    rng = np.random.default_rng(4)
    others = rng.uniform(size=(2000, 10))
    for image in rng.uniform(size=(5, 10)):
        target = int(np.argsort(network.logits(image))[-2])
        nearby = others[np.argmax(network.logits(others), axis=1) == target][:2]
        assert len(nearby)
        alone, helped = (nearest_of_class(network, image, target, nearby=some) for some in ((), nearby))
        assert helped.length == pytest.approx(alone.length, rel=RTOL_GAP)


def test_unreachable_class_has_infinite_distance():
    network = random_network((5, 6, 6, 3))
    network.biases[-1][2] -= 1000.0
    found = nearest_of_class(network, np.full(5, 0.5), 2)
    assert found.length == np.inf and found.floor == np.inf
    assert np.isnan(found.image).all()


def test_too_few_nodes_give_a_floor_below_the_length():
    network, image = random_network((10, 10, 10, 4)), np.random.default_rng(0).uniform(size=10)
    target = int(np.argmin(network.logits(image)))
    few, all_nodes = (nearest_of_class(network, image, target, max_nodes=number) for number in (3, 10**6))
    assert few.floor < all_nodes.floor <= all_nodes.length <= few.length


def test_linear_bounds_of_units_hold_on_samples_and_are_tight_where_asked():
    network, rng = random_network((6, 9, 9, 3)), np.random.default_rng(5)
    image, radius = rng.uniform(size=6), 0.4
    steps = rng.normal(size=(4000, 6))
    images = np.clip(image + radius * steps / np.linalg.norm(steps, axis=1, keepdims=True), 0, 1)
    layers = network.layers(images)
    ranges = UnitRanges(tuple(part.min(axis=0) for part in layers[:-1]), tuple(part.max(axis=0) for part in layers[:-1]))
    rows = rng.normal(size=(5, 3))
    for near in (None, network.layers(image)):
        bounds = linear_upper_bounds(network, rows, 2, ranges, near)
        values, limits = layers[-1] @ rows.T, images @ bounds.normals.T + bounds.constants
        assert np.all(values <= limits + 1e-9)
        assert np.all(limits <= upper_bounds_in_box(bounds, image, 0.0, 1.0, radius) + 1e-9)
        assert np.all(limits <= upper_bounds_in_box(bounds, image, 0.0, 1.0, np.inf) + 1e-9)
