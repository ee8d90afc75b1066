"""The complete unit analysis on features whose axes are the classes, and on rotated features."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from intriguing.units import direction_records as units
from intriguing.units import unit_analysis
from intriguing.units.attributes import attributes_of_classes
from intriguing.units.directions import haar_bases
from intriguing.units.unit_analysis import MEASURES, UnitSettings, analyze_units

stats = pytest.importorskip("scipy.stats", reason="the test of uniformity comes from SciPy (extra test)")

NUM_CLASSES, NUM_IMAGES = 8, 240
QUICK = UnitSettings(alphas=(0.5,), num_rotations=2)
P_UNIFORM = 0.01
NUM_SEEDS = 200


def planted(seed, *, turned):
    """Returns noisy features whose axes are the classes. With `turned` they are rotated by a random basis."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(NUM_IMAGES) % NUM_CLASSES)
    features = np.eye(NUM_CLASSES)[labels] + 0.4 * rng.normal(size=(NUM_IMAGES, NUM_CLASSES))
    if turned:
        features = features @ haar_bases(1, NUM_CLASSES, seed=10_000 + seed).numpy()[0]
    return features.astype(np.float32), labels.astype(np.int32)


def analyzed(features, labels, settings=QUICK):
    examples = tf.data.Dataset.from_tensor_slices((features, labels)).batch(100)
    names = [f"class {label}" for label in range(NUM_CLASSES)]
    return analyze_units(tf.identity, examples, attributes_of_classes(labels, names), settings=settings)


def p_values(analysis):
    return [float(test.p_more) for test in analysis.tests]


@pytest.mark.parametrize("seed", range(20))
def test_natural_basis_is_significant_if_axes_are_classes(seed):
    analysis = analyzed(*planted(seed, turned=False), dataclasses.replace(QUICK, seed=seed))
    assert max(p_values(analysis)) <= 0.01
    assert all(float(test.effect_lower) > 0.0 for test in analysis.tests)


@pytest.mark.slow
def test_p_values_are_uniform_in_a_random_basis():
    analyses = [analyzed(*planted(seed, turned=True), dataclasses.replace(QUICK, seed=seed)) for seed in range(NUM_SEEDS)]
    found = np.array([p_values(analysis) for analysis in analyses])
    for column, measure in enumerate(MEASURES):
        tails = [float(analysis.tests[column].tail_more) for analysis in analyses]
        assert stats.kstest(tails, "uniform").pvalue > P_UNIFORM, measure
        # Uniform noise between possible ranks makes the p-values continuous.
        spread = found[:, column] - np.random.default_rng(0).uniform(size=NUM_SEEDS) / 101
        assert stats.kstest(spread, "uniform").pvalue > P_UNIFORM, measure


def test_selectivity_decreases_from_the_natural_to_a_random_basis():
    analysis = analyzed(*planted(0, turned=False), UnitSettings(num_rotations=5))
    np.testing.assert_allclose(analysis.alphas, [0.0, 0.25, 0.5, 0.75, 1.0])
    assert analysis.along_rotations.shape == (5, 5, len(MEASURES))
    auc = np.mean(analysis.along_rotations[:, :, list(MEASURES).index("best_auc")], axis=1)
    assert np.all(np.diff(auc)[:2] < 0) and auc[0] > auc[-1]
    np.testing.assert_allclose(analysis.along_rotations[0, :, 0], float(analysis.tests[0].natural), rtol=1e-6)


def test_top_images_of_units_equal_a_sort_of_the_features():
    features, labels = planted(0, turned=False)
    analysis = analyzed(features, labels)
    expected = np.argsort(-features, axis=0, kind="stable")[:10].T
    np.testing.assert_array_equal(analysis.natural_top.examples, expected)
    np.testing.assert_array_equal(analysis.natural.top_attribute, np.arange(NUM_CLASSES))
    assert analysis.random_top.examples.shape == (NUM_CLASSES, 10)
    assert not np.array_equal(analysis.random_top.examples, expected)


@pytest.mark.parametrize("scaling", unit_analysis.SCALINGS)
def test_directions_measured_in_parts_equal_those_measured_together(monkeypatch, scaling):
    settings = dataclasses.replace(QUICK, scaling=scaling, max_units=5)
    at_once = analyzed(*planted(0, turned=True), settings)
    monkeypatch.setattr(unit_analysis, "_MOST_CELLS", 70 * NUM_CLASSES * units.NUM_BINS)  # 515 directions in eight parts
    passes = count_calls(monkeypatch, "record_directions")
    in_parts = analyzed(*planted(0, turned=True), settings)
    assert len(passes) == 8
    for one, other in zip(tf.nest.flatten(at_once), tf.nest.flatten(in_parts), strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(in_parts.natural_top.examples, at_once.natural_top.examples)
    np.testing.assert_array_equal(in_parts.random_top.examples, at_once.random_top.examples)


def count_calls(monkeypatch, name):
    calls, original = [], getattr(unit_analysis, name)

    def counted(*args, **options):
        calls.append(args)
        return original(*args, **options)

    monkeypatch.setattr(unit_analysis, name, counted)
    return calls


def test_images_without_common_attributes_warn(caplog):
    features, _ = planted(0, turned=True)
    examples = tf.data.Dataset.from_tensor_slices((features, np.arange(NUM_IMAGES))).batch(100)
    attributes = attributes_of_classes(np.arange(NUM_IMAGES), [str(label) for label in range(NUM_IMAGES)])
    analyze_units(tf.identity, examples, attributes, settings=dataclasses.replace(QUICK, max_units=2))
    assert "No two images have a common attribute, so that the tests are not informative." in caplog.text
    caplog.clear()
    analyzed(*planted(0, turned=True))
    assert not caplog.text


def test_constant_features_are_excluded_and_give_no_nan():
    features, labels = planted(0, turned=False)
    features[:, 3] = 7.0
    for scaling in unit_analysis.SCALINGS:
        analysis = analyzed(features, labels, dataclasses.replace(QUICK, scaling=scaling))
        assert analysis.num_constant == 1
        np.testing.assert_array_equal(analysis.units, [0, 1, 2, 4, 5, 6, 7])
        for tensor in tf.nest.flatten(analysis):
            assert np.all(np.isfinite(tensor))


@pytest.mark.parametrize("scaling", unit_analysis.SCALINGS)
def test_scaling_names_match_the_covariance(scaling):
    rng = np.random.default_rng(0)
    features = (rng.normal(size=(500, 5)) @ rng.normal(size=(5, 5)) * [1, 2, 3, 4, 100]).astype(np.float32)
    examples = tf.data.Dataset.from_tensor_slices((features, np.zeros(500, np.int32))).batch(100)
    moments = unit_analysis.feature_moments(tf.identity, examples)
    scaled = (
        features[:, [0, 2, 4]] @ unit_analysis._scaling(tf.identity, examples, tf.constant([0, 2, 4]), moments, scaling).numpy()
    )
    covariance = np.cov(scaled.T, bias=True)
    expected = {
        "none": np.cov(features[:, [0, 2, 4]].T, bias=True),
        "standardized": np.corrcoef(features[:, [0, 2, 4]].T),
        "whitened": np.eye(3),
    }[scaling]
    np.testing.assert_allclose(covariance, expected, rtol=1e-3, atol=1e-3)
    correlations = [np.corrcoef(scaled[:, unit], features[:, [0, 2, 4][unit]])[0, 1] for unit in range(3)]
    assert min(correlations) > 0.5, "every scaled feature correlates most with its own feature"


def test_units_of_large_layers_are_sampled():
    analysis = analyzed(*planted(0, turned=False), dataclasses.replace(QUICK, max_units=5))
    assert analysis.num_features == NUM_CLASSES
    assert len(set(analysis.units.numpy())) == 5
    assert analysis.natural.selectivity.purity.shape == (5,)


def test_layer_with_a_single_varying_feature_is_refused():
    features, labels = planted(0, turned=False)
    features[:, 1:] = 0.0
    with pytest.raises(ValueError, match="at least two features must vary between images.*received 1 of 8"):
        analyzed(features, labels)


def test_num_top_above_the_number_of_images_is_refused_early():
    features, labels = planted(0, turned=False)
    with pytest.raises(ValueError, match="num_top must be at most 6, the number of images; received 10"):
        analyzed(features[:6], labels[:6])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"num_random_bases": 20},
            "num_random_bases must be at least 99; received 20, for which no p-value can be below 0.0476",
        ),
        ({"scaling": "standardised"}, "unknown scaling 'standardised'. Did you mean 'standardized'"),
        ({"alphas": (0.0, 0.5)}, "alphas must lie between 0 and 1; received"),
        ({"num_rotations": 101}, "num_rotations must be from 1 to num_random_bases, 100; received 101"),
        ({"max_units": 1}, "max_units must be at least 2"),
        ({"num_top": 0}, "num_top must be at least 1; received 0"),
    ],
)
def test_invalid_unit_settings_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        UnitSettings(**options)


def test_every_form_of_images_and_labels_gives_the_same_analysis():
    features, labels = planted(0, turned=True)
    attributes = attributes_of_classes(labels, [f"class {label}" for label in range(NUM_CLASSES)])
    expected = analyzed(features, labels)
    slices, hot = tf.data.Dataset.from_tensor_slices, np.eye(NUM_CLASSES)[labels]
    for form in (
        (features, labels), (features, hot), features, slices((features, labels)), slices(features).batch(100),
        slices((features, hot)).batch(70),
    ):  # fmt: skip
        analysis = analyze_units(tf.identity, form, attributes, settings=QUICK)
        for value, other in zip(tf.nest.flatten(analysis), tf.nest.flatten(expected), strict=True):
            np.testing.assert_array_equal(value, other)


@pytest.mark.parametrize("number", [100, NUM_IMAGES + 1])
def test_images_without_labels_must_match_the_number_of_attributes(number):
    features, labels = planted(0, turned=True)
    attributes = attributes_of_classes(labels, [f"class {label}" for label in range(NUM_CLASSES)])
    with pytest.raises(ValueError, match="received 100 images and 240 groups|received 240 groups for more images"):
        analyze_units(tf.identity, np.resize(features, (number, NUM_CLASSES)), attributes, settings=QUICK)


def test_groups_passed_with_images_must_be_those_of_the_attributes():
    features, labels = planted(0, turned=True)
    attributes = attributes_of_classes(labels, [f"class {label}" for label in range(NUM_CLASSES)])
    with pytest.raises(ValueError, match="attributes must have one group for each image; received 100 images and 240 groups"):
        analyze_units(tf.identity, (features[:100], labels[:100]), attributes, settings=QUICK)
    changed = labels.copy()
    changed[7] = (labels[7] + 1) % NUM_CLASSES
    with pytest.raises(
        ValueError,
        match=f"must be attributes.groups; received {changed[7]} instead of {labels[7]} for image 7. Pass the images",
    ):
        analyze_units(tf.identity, (features, changed), attributes, settings=QUICK)


def test_padding_rows_are_not_compared_with_the_attributes():
    features, labels = planted(0, turned=True)
    attributes = attributes_of_classes(labels, [f"class {label}" for label in range(NUM_CLASSES)])
    padded = np.concatenate([features, features[:16]]), np.concatenate([labels, np.full(16, -1)])
    analysis = analyze_units(tf.identity, padded, attributes, settings=QUICK)
    assert p_values(analysis) == p_values(analyzed(features, labels))


def test_labels_instead_of_attributes_are_refused():
    features, labels = planted(0, turned=True)
    with pytest.raises(TypeError, match="attributes must be an Attributes; received ndarray.*attributes_of_classes"):
        analyze_units(tf.identity, (features, labels), labels)


def test_print_shows_the_sizes_and_the_effect_of_each_measure():
    analysis = analyzed(*planted(0, turned=False), dataclasses.replace(QUICK, max_units=5))
    first, _, *rows = str(analysis).splitlines()
    assert first == f"5 units of {NUM_CLASSES} features, 0 of them constant."
    assert [row.split(":")[0].strip() for row in rows] == list(MEASURES)
    assert f"{float(analysis.tests[0].effect):+.2f} (" in rows[0] and "p_more 0.0099" in rows[0]
