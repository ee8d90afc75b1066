"""Selectivity agrees with values computed by hand, with the published formula, and with rank statistics."""

import numpy as np
import pytest
import tensorflow as tf

from intriguing.units.direction_records import record_directions
from intriguing.units.selectivity import measure_selectivity

stats = pytest.importorskip("scipy.stats", reason="ranks come from SciPy (extra test)")

NUM_CLASSES = 4
ATOL_BINS = 4e-3  # 1.4 % of all pairs of 900 images share a bin and count as ties, with an error of at most half of that


def measured(features, groups, group_attributes=None, num_top=10):
    group_attributes = np.eye(NUM_CLASSES, dtype=bool) if group_attributes is None else group_attributes
    examples = tf.data.Dataset.from_tensor_slices((features.astype(np.float32), groups.astype(np.int32))).batch(100)
    record = record_directions(tf.identity, examples, None, num_groups=len(group_attributes), num_top=num_top)
    return measure_selectivity(record, tf.constant(group_attributes))


@pytest.fixture(scope="module")
def rectified():
    """Features of rectified units that are larger for their class and zero for many images."""
    rng = np.random.default_rng(0)
    groups = rng.integers(0, NUM_CLASSES, size=900)
    features = np.maximum(rng.normal(size=(900, 6)) + rng.uniform(0, 2, size=(NUM_CLASSES, 6))[groups] - 0.5, 0.0)
    return features, groups


def test_purity_and_entropy_equal_values_computed_by_hand():
    features = np.zeros((20, 2))
    features[:8, 0] = features[12:, 1] = np.arange(8, 0, -1)
    groups = np.array([0, 0, 0, 0, 1, 1, 2, 3] + [0] * 4 + [3] * 8)
    found = measured(features, groups, num_top=8)
    np.testing.assert_allclose(found.selectivity.purity, [0.5, 1.0])
    np.testing.assert_allclose(found.selectivity.label_entropy, [1.75, 0.0], atol=1e-6)
    np.testing.assert_array_equal(found.top_attribute, [0, 3])


def test_selectivity_of_rectified_units_equals_the_published_formula(rectified):
    features, groups = rectified
    means = np.stack([features[groups == label].mean(axis=0) for label in range(NUM_CLASSES)])
    best = means.argmax(axis=0)
    rest = np.array([features[groups != label, unit].mean() for unit, label in enumerate(best)])
    top = means.max(axis=0)
    np.testing.assert_allclose(measured(*rectified).selectivity.class_selectivity, (top - rest) / (top + rest), rtol=1e-4)


def test_selectivity_ignores_offset_and_scale(rectified):
    features, groups = rectified
    moved = measured(3.0 * features - 7.0, groups).selectivity.class_selectivity
    np.testing.assert_allclose(moved, measured(*rectified).selectivity.class_selectivity, rtol=1e-4)


def test_best_auc_equals_the_rank_statistic_with_ties_counted_half(rectified):
    features, groups = rectified
    areas = np.array(
        [
            [stats.mannwhitneyu(unit[groups == label], unit[groups != label]).statistic for label in range(NUM_CLASSES)]
            for unit in features.T
        ]
    ) / [np.sum(groups == label) * np.sum(groups != label) for label in range(NUM_CLASSES)]
    found = measured(*rectified)
    np.testing.assert_allclose(found.selectivity.best_auc, areas.max(axis=1), atol=ATOL_BINS)
    np.testing.assert_array_equal(found.best_attribute, areas.argmax(axis=1))


def test_attributes_may_overlap(rectified):
    features, groups = rectified
    group_attributes = np.array([[1, 1, 0], [0, 1, 0], [1, 0, 0], [0, 0, 0]], dtype=bool)  # no group has the last attribute
    found = measured(features, groups, group_attributes)
    has = group_attributes[groups][:, :2]
    top = np.argsort(-features, axis=0, kind="stable")[:10].T
    np.testing.assert_allclose(found.selectivity.purity, has[top].mean(axis=1).max(axis=1), rtol=1e-6)
    areas = [
        max(
            stats.mannwhitneyu(unit[has[:, column]], unit[~has[:, column]]).statistic
            / (has[:, column].sum() * (~has[:, column]).sum())
            for column in range(2)
        )
        for unit in features.T
    ]
    np.testing.assert_allclose(found.selectivity.best_auc, areas, atol=ATOL_BINS)


def test_perfect_detector_has_the_best_value_of_every_measure():
    groups = np.repeat(np.arange(NUM_CLASSES), 30)
    found = measured(np.eye(NUM_CLASSES)[groups], groups).selectivity
    for values, best in zip(found, (1.0, 0.0, 1.0, 1.0), strict=True):
        np.testing.assert_allclose(values, best, atol=1e-6)


def test_constant_direction_has_neutral_values_without_nan(rectified):
    features, groups = rectified
    features = np.concatenate([features, np.full((900, 1), 2.5)], axis=1)
    found = measured(features, groups).selectivity
    assert all(np.all(np.isfinite(values)) for values in found)
    assert found.class_selectivity[-1] == 0.0
    assert found.best_auc[-1] == 0.5


def test_empty_group_gives_finite_values(rectified):
    features, groups = rectified
    found = measured(features, np.where(groups == 3, 0, groups)).selectivity
    assert all(np.all(np.isfinite(values)) for values in found)
