"""The bisection over c for known thresholds."""

import numpy as np
import pytest
import tensorflow as tf

from intriguing.optimize.bisection import Bisection, bisect_on_c

THRESHOLDS = np.array([1e-5, 3e-3, 0.5, 1.0, 7.0, 4e4], np.float32)


def search(thresholds, *, initial_c=1.0, settings=Bisection(max_steps=40), in_work=None):
    thresholds = tf.constant(thresholds)
    in_work = tf.ones_like(thresholds, tf.bool) if in_work is None else tf.constant(in_work)

    def attempt(c, open_rows, num_attempts):
        return c <= thresholds, num_attempts + tf.cast(open_rows, tf.int32)

    return bisect_on_c(
        attempt,
        initial_c=tf.fill(thresholds.shape, initial_c),
        state=tf.zeros(thresholds.shape, tf.int32),
        in_work=in_work,
        settings=settings,
    )


@pytest.mark.parametrize("ratio", [1.01, 1.05, 2.0])
def test_threshold_is_bracketed_within_the_ratio_from_both_sides(ratio):
    bracket, _ = search(THRESHOLDS, settings=Bisection(bracket_ratio=ratio, max_steps=60))
    succeeded_at, failed_at = bracket.succeeded_at.numpy(), bracket.failed_at.numpy()
    assert (succeeded_at <= THRESHOLDS).all() and (THRESHOLDS < failed_at).all()
    assert (failed_at <= ratio * succeeded_at).all()


def test_rows_are_searched_independently():
    together, attempts = search(THRESHOLDS)
    for row, threshold in enumerate(THRESHOLDS):
        alone, attempts_alone = search(THRESHOLDS[row : row + 1])
        assert alone.succeeded_at.numpy()[0] == together.succeeded_at.numpy()[row], threshold
        assert attempts_alone.numpy()[0] == attempts.numpy()[row]


def test_missing_threshold_gives_zero_and_infinity():
    bracket, _ = search(np.array([0.0, np.inf], np.float32), settings=Bisection(max_steps=100))
    assert bracket.succeeded_at.numpy()[0] == 0.0
    assert np.isinf(bracket.failed_at.numpy()[1])


def test_inactive_rows_are_not_searched():
    bracket, attempts = search(THRESHOLDS, in_work=[True, False] * 3)
    assert attempts.numpy()[1::2].tolist() == [0, 0, 0]
    assert bracket.succeeded_at.numpy()[1::2].tolist() == [0.0, 0.0, 0.0]


def test_evaluations_stay_within_the_budget():
    _, attempts = search(THRESHOLDS, settings=Bisection(max_steps=3, bracket_ratio=1.001))
    assert attempts.numpy().max() == 3


@pytest.mark.parametrize("setting", ["growth", "bracket_ratio"])
def test_settings_refuse_factors_of_at_most_one(setting):
    with pytest.raises(ValueError, match=f"{setting} must be greater than 1; received 1.0"):
        Bisection(**{setting: 1.0})


def test_settings_refuse_an_empty_budget():
    with pytest.raises(ValueError, match="max_steps must be at least 1; received 0"):
        Bisection(max_steps=0)
