"""One pass over the images gives the results of sorting, counting and averaging all of them together."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from intriguing.units import direction_records as units
from intriguing.units.direction_records import NUM_BINS, Projections, record_directions
from intriguing.units.feature_moments import feature_covariance, feature_moments
from intriguing.units.feature_passes import kept_features

NUM_IMAGES, NUM_FEATURES, NUM_DIRECTIONS, NUM_GROUPS = 2600, 6, 9, 3  # two chunks and a partial one
RTOL_SUMS = 1e-5  # float32, added up in another order
ATOL_ROUNDED = 5e-4  # features near 1000 or 2000 are rounded to 6e-5 or 1.2e-4


def identity(images):
    return tf.identity(images)


@pytest.fixture(scope="module")
def data():
    """Small integers, so that sums are exact and ties are frequent."""
    rng = np.random.default_rng(0)
    features = rng.integers(-3, 4, size=(NUM_IMAGES, NUM_FEATURES)).astype(np.float32)
    groups = rng.integers(0, NUM_GROUPS, size=NUM_IMAGES).astype(np.int32)
    kernel = rng.integers(-2, 3, size=(NUM_FEATURES, NUM_DIRECTIONS)).astype(np.float32)
    offset = rng.integers(-2, 3, size=NUM_DIRECTIONS).astype(np.float32)
    return features, groups, over_all(kernel, offset)


def over_all(kernel, offset):
    return Projections(tf.range(len(kernel)), tf.constant(kernel), tf.constant(offset))


def dataset(features, groups, batch_size, *, padding=0):
    features = np.concatenate([features, np.full((padding, features.shape[1]), 99.0, np.float32)])
    groups = np.concatenate([groups, np.full(padding, -1, np.int32)])
    return tf.data.Dataset.from_tensor_slices((features, groups)).batch(batch_size)


def projected(data):
    features, _, projections = data
    return features @ projections.kernel.numpy() + projections.offset.numpy()


def sorted_whole(values, k):
    """Returns the indices of the k largest values of each column. Ties are resolved by the smaller index."""
    return np.stack([np.lexsort((np.arange(len(column)), -column))[:k] for column in values.T])


def recorded(data, *, batch_size=100, num_top=10, **options):
    features, groups, projections = data
    examples = dataset(features, groups, batch_size, **options)
    return record_directions(identity, examples, projections, num_groups=NUM_GROUPS, num_top=num_top)


def assert_whole_sort(record, data, k):
    values, groups = projected(data), data[1]
    expected = sorted_whole(values, k)
    np.testing.assert_array_equal(record.top_examples, expected)
    np.testing.assert_array_equal(record.top_values, np.take_along_axis(values.T, expected, axis=1))
    np.testing.assert_array_equal(record.top_groups, groups[expected])


@pytest.mark.parametrize("batch_size", [33, 256, 2600])
@pytest.mark.parametrize("num_top", [1, 10, 256])
def test_top_images_equal_a_full_sort_in_any_batch_size(data, batch_size, num_top):
    assert_whole_sort(recorded(data, batch_size=batch_size, num_top=num_top), data, num_top)


@pytest.mark.parametrize("num_images", [300, 2600])
def test_top_images_on_two_devices_equal_a_full_sort(data, two_replicas, num_images):
    fewer = (data[0][:num_images], data[1][:num_images], data[2])
    with two_replicas.scope():
        record = recorded(fewer)
    assert_whole_sort(record, fewer, 10)
    one = recorded(fewer)
    for value, other in zip(record, one, strict=True):
        np.testing.assert_array_equal(value, other)


def test_top_images_do_not_depend_on_devices_or_batch_size(two_replicas):
    rng = np.random.default_rng(1)
    features = rng.normal(size=(2500, 40)).astype(np.float32)
    projections = over_all(rng.normal(size=(40, 500)).astype(np.float32), np.zeros(500, np.float32))
    records = [recorded((features, np.zeros(2500, np.int32), projections), batch_size=size) for size in (70, 2500)]
    with two_replicas.scope():
        records.append(recorded((features, np.zeros(2500, np.int32), projections)))
    for record in records[1:]:
        np.testing.assert_array_equal(record.top_examples, records[0].top_examples)


def test_padding_rows_are_ignored(data):
    plain, filled = recorded(data), recorded(data, padding=80)
    for value, other in zip(plain, filled, strict=True):
        np.testing.assert_array_equal(value, other)


def test_sums_minima_and_group_sizes_equal_those_of_all_images(data):
    record, values, groups = recorded(data), projected(data), data[1]
    expected = np.stack([values[groups == group].sum(axis=0) for group in range(NUM_GROUPS)], axis=1)
    np.testing.assert_allclose(record.sums, expected, rtol=RTOL_SUMS)
    np.testing.assert_array_equal(record.minimum, values.min(axis=0))
    np.testing.assert_array_equal(record.group_sizes, np.bincount(groups))


def test_histograms_count_every_image_once_and_keep_the_order(data):
    record, values, groups = recorded(data), projected(data), data[1]
    np.testing.assert_array_equal(np.sum(record.counts, axis=2), np.broadcast_to(np.bincount(groups), (NUM_DIRECTIONS, 3)))
    for direction in range(NUM_DIRECTIONS):
        distinct, counts = np.unique(values[:, direction], return_counts=True)
        occupied = np.sum(record.counts[direction], axis=0)
        assert len(distinct) < NUM_BINS / 2, "bins are narrower than the steps between values"
        np.testing.assert_array_equal(occupied[occupied > 0], counts)


def test_default_projections_are_the_natural_basis(data):
    features, groups, _ = data
    natural = record_directions(identity, dataset(features, groups, 50), None, num_groups=NUM_GROUPS)
    unit = over_all(np.eye(NUM_FEATURES, dtype=np.float32), np.zeros(NUM_FEATURES, np.float32))
    for value, other in zip(natural, recorded((features, groups, unit)), strict=True):
        np.testing.assert_array_equal(value, other)


def test_second_pass_reuses_compiled_programs(data):
    recorded(data)
    caches = (units._compiled_chunk, units._compiled_join)
    before = [cache.cache_info().misses for cache in caches]
    join = units._compiled_join((1, NUM_DIRECTIONS, NUM_GROUPS, NUM_BINS))
    traces = join.experimental_get_tracing_count()
    recorded(data, batch_size=64)
    assert [cache.cache_info().misses for cache in caches] == before
    assert join.experimental_get_tracing_count() == traces > 0


def test_projections_may_use_a_subset_of_features(data):
    features, groups, projections = data
    some = tf.constant([4, 1])
    few = Projections(some, tf.gather(projections.kernel, some), projections.offset)
    blind = over_all(np.where(np.isin(np.arange(NUM_FEATURES), some)[:, None], projections.kernel, 0.0), projections.offset)
    for value, other in zip(recorded((features, groups, few)), recorded((features, groups, blind)), strict=True):
        np.testing.assert_array_equal(value, other)


def test_moments_equal_those_of_all_images_for_a_large_mean(data, two_replicas):
    features = 1000.0 + np.random.default_rng(0).normal(size=(NUM_IMAGES, NUM_FEATURES)).astype(np.float32)
    for scope in (tf.distribute.get_strategy().scope(), two_replicas.scope()):
        with scope:
            moments = feature_moments(identity, dataset(features, data[1], 90, padding=20))
        np.testing.assert_allclose(moments.mean, features.mean(axis=0, dtype=np.float64), rtol=RTOL_SUMS)
        np.testing.assert_allclose(moments.variance, features.var(axis=0, dtype=np.float64), atol=ATOL_ROUNDED)
        np.testing.assert_array_equal(moments.minimum, features.min(axis=0))
        np.testing.assert_array_equal(moments.maximum, features.max(axis=0))
        assert int(moments.num_examples) == NUM_IMAGES


def test_covariance_equals_that_of_all_images(data, two_replicas):
    features = 1000.0 + np.random.default_rng(0).normal(size=(NUM_IMAGES, NUM_FEATURES)).astype(np.float32)
    features[:, 2] += features[:, 5]
    some = tf.constant([5, 2])
    mean = tf.constant(features.mean(axis=0))
    for scope in (tf.distribute.get_strategy().scope(), two_replicas.scope()):
        with scope:
            found = feature_covariance(identity, dataset(features, data[1], 90, padding=20), some, mean)
        np.testing.assert_allclose(found, np.cov(features[:, some].T.astype(np.float64), bias=True), atol=ATOL_ROUNDED)


def as_large(features, groups):
    """Returns images `[batch, 128, 129, 1]`, so large that few are evaluated together. Their first pixels are the features."""
    return tf.reshape(tf.pad(features, [[0, 0], [0, 128 * 129 - NUM_FEATURES]]), [-1, 128, 129, 1]), groups


def first_pixels(images):
    return tf.reshape(images, [images.shape[0], 128 * 129])[:, :NUM_FEATURES]


@pytest.mark.parametrize("num_top", [10, 100])  # of chunks of 64
def test_large_images_have_the_records_of_small_images(data, two_replicas, num_top):
    features, groups, projections = (data[0][:333], data[1][:333], data[2])
    large = dataset(features, groups, 50).map(as_large)
    for scope in (tf.distribute.get_strategy().scope(), two_replicas.scope()):
        with scope:
            found = record_directions(first_pixels, large, projections, num_groups=NUM_GROUPS, num_top=num_top)
            moments = feature_moments(first_pixels, large)
        assert_whole_sort(found, (features, groups, projections), num_top)
        np.testing.assert_array_equal(np.sum(found.counts, axis=2)[0], np.bincount(groups))
        np.testing.assert_array_equal(found.sums, recorded((features, groups, projections)).sums)
        np.testing.assert_allclose(moments.variance, features.var(axis=0), rtol=RTOL_SUMS)


@pytest.mark.parametrize("number", [0, 257])
def test_num_top_out_of_range_is_refused(data, number):
    with pytest.raises(ValueError, match=f"num_top must be from 1 to 256; received {number}"):
        recorded(data, num_top=number)


def test_too_many_histogram_bins_are_refused(data):
    with pytest.raises(ValueError, match=r"below 2\*\*31; received 9 directions and 2000000 groups. Record the directions in"):
        record_directions(identity, dataset(data[0], data[1], 100), data[2], num_groups=2_000_000)


def test_kept_features_are_in_the_order_of_the_images(data, two_replicas):
    features, groups, _ = data
    with two_replicas.scope():
        kept = list(kept_features(identity, dataset(features, groups, 90, padding=20), tf.constant([4, 1])))
    found, found_groups = (np.concatenate(parts) for parts in zip(*kept, strict=True))
    np.testing.assert_array_equal(found[:NUM_IMAGES], features[:, [4, 1]])
    np.testing.assert_array_equal(found_groups[:NUM_IMAGES], groups)
    assert (found_groups[NUM_IMAGES:] == -1).all()


def test_more_top_images_than_images_are_refused(data):
    few = (data[0][:5], data[1][:5], data[2])
    with pytest.raises(ValueError, match="num_top must be at most 5, the number of images; received 10. Pass a smaller number"):
        recorded(few)


@pytest.mark.parametrize("measure", [feature_moments, lambda *args: record_directions(*args, None, num_groups=3)])
def test_features_that_are_not_finite_are_refused(data, measure):
    features = data[0].copy()
    features[1600, 2] = np.nan
    with pytest.raises(ValueError, match="features must be finite; 1 of 6 are not for some image"):
        measure(identity, dataset(features, data[1], 100))


@pytest.mark.parametrize("measure", [feature_moments, lambda *args: record_directions(*args, None, num_groups=3)])
def test_empty_data_sets_are_refused(data, measure):
    with pytest.raises(ValueError, match="at least one image; received none"):
        measure(identity, dataset(data[0][:0], data[1][:0], 100))


def test_images_without_a_fixed_shape_are_refused(data):
    def generate():
        yield np.zeros((2, 3), np.float32), np.zeros(2, np.int32)

    specs = (tf.TensorSpec([None, None], tf.float32), tf.TensorSpec([None], tf.int32))
    loose = tf.data.Dataset.from_generator(generate, output_signature=specs)
    with pytest.raises(ValueError, match="images must have one fixed shape; received .* Resize them"):
        feature_moments(identity, loose)


def forms(features, groups):
    pair = tf.data.Dataset.from_tensor_slices((features, groups))
    return {
        "arrays": (features, groups), "tensors": (tf.constant(features), tf.constant(groups)),
        "double precision": (features.astype(np.float64), groups.astype(np.int64)), "bytes": (features, groups.astype(np.uint8)),
        "one-hot rows": (features, np.eye(NUM_GROUPS, dtype=np.float32)[groups]), "column": (features, groups[:, np.newaxis]),
        "single images": pair, "batches": pair.batch(7),
        "one-hot batches": tf.data.Dataset.from_tensor_slices((features, np.eye(NUM_GROUPS)[groups])).batch(99),
    }  # fmt: skip


def test_every_form_of_images_and_groups_gives_the_same_record(data):
    features, groups, projections = data
    expected = recorded(data)
    for name, form in forms(features, groups).items():
        record = record_directions(identity, form, projections, num_groups=NUM_GROUPS, num_top=10)
        for value, other in zip(record, expected, strict=True):
            np.testing.assert_array_equal(value, other, err_msg=name)


def test_moments_require_no_groups(data):
    features, groups, _ = data
    expected = feature_moments(identity, dataset(features, groups, 100))
    batches = tf.data.Dataset.from_tensor_slices(features).batch(100)
    for form in (features, batches):
        for value, other in zip(feature_moments(identity, form), expected, strict=True):
            np.testing.assert_array_equal(value, other)


def test_single_images_are_batched_by_the_input_shape_of_the_model(data):
    features = data[0]
    model = keras.Sequential([keras.Input((NUM_FEATURES,)), keras.layers.Rescaling(2.0)])
    for form in (features, tf.data.Dataset.from_tensor_slices(features)):
        np.testing.assert_allclose(feature_moments(model, form).mean, 2.0 * features.mean(axis=0), atol=1e-5)


def shaped(model_shape):
    return keras.Sequential([keras.Input(model_shape), keras.layers.Flatten()])


def generator():
    yield np.zeros((4, 6), np.float32), np.zeros(4, np.int32)


IMAGES, ZEROS = np.zeros((20, 6), np.float32), np.zeros(20, np.int32)
SLICES = tf.data.Dataset.from_tensor_slices
WRONG_EXAMPLES = {
    "bytes": ((IMAGES.astype(np.uint8), ZEROS), TypeError, "images must be floating point.*received uint8. Scale bytes"),
    "generator": (generator(), TypeError, "received generator. The images are read several times: convert a generator"),
    "endless": (SLICES((IMAGES, ZEROS)).batch(4).repeat(), ValueError, "examples must be a finite data set.*Omit repeat"),
    "names": (SLICES({"image": IMAGES, "label": ZEROS}), ValueError, "examples must be .images, groups., or images alone"),
    "too few groups": ((IMAGES, ZEROS[:5]), ValueError, "one group for each image; received images of shape .20, 6. and groups"),
    "one image": (IMAGES[0], ValueError, r"images must be a batch \[batch, ...\]; received shape \[6\]. Add a batch axis"),
    "no groups": (IMAGES, ValueError, "with one of the 3 groups for each image; received only images"),
    "float groups": ((IMAGES, ZEROS.astype(np.float32)), TypeError, "groups must be integers; received float32"),
    "soft groups": ((IMAGES, np.full((20, 3), 1 / 3)), ValueError, "or one-hot rows of length 3; received float64 of shape"),
    "other length": ((IMAGES, np.eye(4)[ZEROS]), ValueError, r"one-hot rows of length 3; received float64 of shape \(20, 4\)"),
    "out of range": ((IMAGES, ZEROS + 3), ValueError, "groups must be numbers from 0 to 2.*received values from 3 to 3"),
    "names of groups": ((IMAGES, np.full(20, "cat")), TypeError, "groups must be integers; received (object|<U3)"),
}  # fmt: skip


@pytest.mark.parametrize(("examples", "error", "message"), WRONG_EXAMPLES.values(), ids=WRONG_EXAMPLES)
def test_invalid_examples_are_refused(examples, error, message):
    with pytest.raises(error, match=message):
        record_directions(identity, examples, None, num_groups=3)


@pytest.mark.parametrize("form", [IMAGES, SLICES(IMAGES), SLICES(IMAGES).batch(5)], ids=["array", "single images", "batches"])
def test_images_of_another_shape_are_refused(form):
    with pytest.raises(ValueError, match=r"images must have the shape \[7\] that the network expects; received \[6\]"):
        feature_moments(shaped((7,)), form)


def test_single_unit_has_moments_and_a_record(data):
    features, groups, _ = data
    model = keras.Sequential([keras.Input((NUM_FEATURES,)), keras.layers.Dense(1)])
    values = np.asarray(model(features))
    np.testing.assert_allclose(feature_moments(model, features).mean, values.mean(axis=0), rtol=1e-4, atol=1e-4)
    record = record_directions(model, (features, groups), None, num_groups=NUM_GROUPS, num_top=3)
    np.testing.assert_allclose(record.top_values[0], np.sort(values[:, 0])[::-1][:3], rtol=1e-5)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16", "float16", "float64"])
def test_features_of_other_precisions_are_recorded_in_float32(data, policy):
    features, groups, _ = data
    model = keras.Sequential([keras.Input((NUM_FEATURES,)), keras.layers.Dense(4, activation="relu", dtype=policy)])
    values = np.asarray(tf.cast(model(features), tf.float32))
    moments = feature_moments(model, features)
    assert moments.mean.dtype == tf.float32
    np.testing.assert_allclose(moments.mean, values.mean(axis=0), rtol=0.02)
    record = record_directions(model, (features, groups), None, num_groups=NUM_GROUPS, num_top=3)
    np.testing.assert_allclose(record.top_values[:, 0], values.max(axis=0), rtol=0.02)
    kept = np.concatenate([part for part, _ in kept_features(model, features, tf.constant([3, 1]))])
    np.testing.assert_allclose(kept[:NUM_IMAGES], values[:, [3, 1]], rtol=0.05, atol=0.05)
