"""A statistical test of whether the natural basis is more selective than random bases, with an effect and an error rate."""

from __future__ import annotations

from math import sqrt
from typing import NamedTuple

import tensorflow as tf

LEVEL = 0.01  # the p-value that a test must be able to reach
_NUM_RESAMPLES = 2000
_INTERVAL = (0.025, 0.975)


class BasisTest(NamedTuple):
    """The natural basis beside random ones, by one measure."""

    natural: tf.Tensor  # mean over the directions of the natural basis
    random: tf.Tensor  # mean over the directions of all random bases
    effect: tf.Tensor  # (natural - random) in standard deviations of single random directions; positive: more selective
    effect_lower: tf.Tensor  # lower end of its 95 % interval
    effect_upper: tf.Tensor
    p_more: tf.Tensor  # share of bases, the natural one included, that are at least as selective; small: it is more selective
    p_less: tf.Tensor  # share that are at most as selective; small: the natural basis is less selective
    tail_more: tf.Tensor  # as p_more, if the means of bases are normally distributed
    tail_less: tf.Tensor  # as p_less, likewise


def check_num_bases(num_bases: int) -> None:
    """Raises a `ValueError` unless so many random bases let the p-value reach `LEVEL`."""
    least = round(1 / LEVEL) - 1
    if num_bases < least:
        raise ValueError(
            f"num_random_bases must be at least {least}: with {num_bases} no p-value can be below {1 / (num_bases + 1):.3g}. "
            "Ask for 100."
        )


def compare_bases(natural: tf.Tensor, random: tf.Tensor, *, larger_is_selective: bool = True, seed: int = 0) -> BasisTest:
    """Compares the natural basis with random ones.

    If the natural basis is a basis like any other, its mean is exchangeable with theirs, and its rank among them is uniform:
    the p-value `(1 + number at least as selective) / (1 + number of bases)` is then exact, whatever the distribution. Both
    sides are given, each by itself: to use both is to use two tests. A hundred bases cannot distinguish a p-value of a
    millionth from one of a hundredth, which many tests at once need: the tails can, those of Student's t for one more mean
    beside the random ones. A mean over many directions is nearly normal; where that is in doubt, the ranks hold.

    The interval of the effect is a percentile bootstrap over the directions of the natural basis and over the random bases.

    Args:
        natural: Float32 `[directions]`, a measure of selectivity.
        random: Float32 `[bases, directions]`, the same of random bases.
        larger_is_selective: False for a measure like entropy; means stay as they are, the sign of the effect is reversed.
        seed: Of the resampling.

    Returns:
        A `BasisTest` of scalars. Where single random directions do not differ at all, the effect is 0 if the natural basis
        does not differ either, and infinite otherwise.

    Raises:
        ValueError: If there are too few random bases for a p-value of 0.01, or numbers of directions differ.

    Example:
        >>> random = tf.random.stateless_normal([99, 32], seed=[0, 0])
        >>> test = compare_bases(5.0 + tf.zeros([32]), random)
        >>> round(float(test.p_more), 4)
        0.01

    References:
        Phipson and Smyth, Permutation p-values should never be zero, 2010. Cohen, Statistical power analysis, 1988, for the
        effect, with the random directions as the standard group.
    """
    natural, random = tf.convert_to_tensor(natural), tf.convert_to_tensor(random)
    check_num_bases(random.shape[0])
    if natural.shape[0] != random.shape[1]:
        raise ValueError(
            f"natural and random bases must have equally many directions; received {natural.shape[0]} and {random.shape[1]}."
        )
    sign = 1.0 if larger_is_selective else -1.0
    of_bases = tf.reduce_mean(random, axis=1)
    of_natural, of_random = tf.reduce_mean(natural), tf.reduce_mean(of_bases)
    spread = tf.math.reduce_std(random)
    differences = sign * (_resampled_means(natural, seed) - _resampled_means(of_bases, seed + 1))
    lower, upper = (_quantile(differences, share) for share in _INTERVAL)
    excess = sign * (of_bases - of_natural)
    rounding = 1e-6 * tf.abs(of_natural)  # a tie counts on either side
    p_more, p_less = (_rank_p_value(beyond) for beyond in (excess >= -rounding, excess <= rounding))
    return BasisTest(
        natural=of_natural,
        random=of_random,
        effect=_in_spreads(sign * (of_natural - of_random), spread),
        effect_lower=_in_spreads(lower, spread),
        effect_upper=_in_spreads(upper, spread),
        p_more=p_more,
        p_less=p_less,
        tail_more=_student_tail(-excess),
        tail_less=_student_tail(excess),
    )


def _rank_p_value(beyond: tf.Tensor) -> tf.Tensor:
    return (1.0 + tf.math.count_nonzero(beyond, dtype=tf.float32)) / (1.0 + beyond.shape[0])


def _student_tail(leads: tf.Tensor) -> tf.Tensor:
    """Returns how likely one more mean would lead the others by as much, if all came from one normal distribution.

    Args:
        leads: Float32 `[bases]`, by how much the mean in question leads each of the others.
    """
    number = leads.shape[0]
    lead, spread = tf.reduce_mean(leads), tf.math.reduce_std(leads) * sqrt((number + 1) / (number - 1))
    square = tf.math.divide_no_nan(lead, spread) ** 2
    freedom = number - 1.0
    beyond = tf.math.betainc(freedom / 2.0, 0.5, tf.where(spread > 0.0, freedom / (freedom + square), 0.0)) / 2.0
    return tf.where(lead > 0.0, beyond, tf.where(lead < 0.0, 1.0 - beyond, 1.0))


def _resampled_means(values: tf.Tensor, seed: int) -> tf.Tensor:
    number = values.shape[0]
    draws = tf.random.stateless_uniform([_NUM_RESAMPLES, number], [seed, 1], 0, number, tf.int32, alg="philox")
    return tf.reduce_mean(tf.gather(values, draws), axis=1)


def _quantile(values: tf.Tensor, share: float) -> tf.Tensor:
    return tf.sort(values)[round(share * (values.shape[0] - 1))]


def _in_spreads(difference: tf.Tensor, spread: tf.Tensor) -> tf.Tensor:
    return tf.where(spread > 0.0, difference / spread, tf.where(difference == 0.0, 0.0, tf.sign(difference) * float("inf")))
