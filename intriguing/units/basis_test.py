"""A statistical test of whether the natural basis is more selective than random bases, with an effect size and p-values."""

from __future__ import annotations

from math import sqrt
from typing import NamedTuple

import tensorflow as tf

LEVEL = 0.01  # the significance level that the smallest possible p-value must not exceed
_NUM_RESAMPLES = 2000
_INTERVAL = (0.025, 0.975)


class BasisTest(NamedTuple):
    """The comparison of the natural basis with random bases by one measure."""

    natural: tf.Tensor  # mean over the directions of the natural basis
    random: tf.Tensor  # mean over the directions of all random bases
    effect: tf.Tensor  # (natural - random) in standard deviations of single random directions; positive: more selective
    effect_lower: tf.Tensor  # lower end of its 95 % interval
    effect_upper: tf.Tensor
    p_more: tf.Tensor  # p-value of "more selective": fraction of bases, the natural one included, at least as selective
    p_less: tf.Tensor  # p-value of "less selective": fraction of bases, the natural one included, at most as selective
    tail_more: tf.Tensor  # as p_more, under the assumption that the means of bases are normally distributed
    tail_less: tf.Tensor  # as p_less, under the same assumption


def check_num_bases(num_bases: int) -> None:
    """Raises a `ValueError` if there are too few random bases for a p-value of `LEVEL`."""
    least = round(1 / LEVEL) - 1
    if num_bases < least:
        raise ValueError(
            f"num_random_bases must be at least {least}; received {num_bases}, for which no p-value can be below "
            f"{1 / (num_bases + 1):.3g}. Pass 100."
        )


def compare_bases(natural: tf.Tensor, random: tf.Tensor, *, larger_is_selective: bool = True, seed: int = 0) -> BasisTest:
    """Compares the natural basis with random ones.

    Under the null hypothesis, the mean of the natural basis is exchangeable with the means of random bases, and its rank is
    uniform. The p-value `(1 + number at least as selective) / (1 + number of bases)` is then exact for every distribution. Both
    one-sided p-values are returned; to use both is to perform two tests. With a hundred bases, this p-value cannot be below
    0.01, but corrections for multiple tests require smaller ones. For them, `tail_more` and `tail_less` are tail probabilities
    of Student's t for one additional mean. They assume that means over many directions are nearly normal; the p-values of ranks
    do not.

    The interval of the effect is a percentile bootstrap over the directions of the natural basis and over the random bases.

    Args:
        natural: Float32 `[directions]`, a measure of selectivity.
        random: Float32 `[bases, directions]`, the same measure for random bases.
        larger_is_selective: False for a measure such as entropy; the sign of the effect is then reversed, but not that of the
            means.
        seed: Seed of the bootstrap.

    Returns:
        A `BasisTest` of scalars. If all random directions have the same value, the effect is 0 if the natural basis also has
        it, and infinite otherwise.

    Raises:
        ValueError: If there are too few random bases for a p-value of 0.01, or the numbers of directions differ.

    Example:
        >>> random = tf.random.stateless_normal([99, 32], seed=[0, 0])
        >>> test = compare_bases(5.0 + tf.zeros([32]), random)
        >>> round(float(test.p_more), 4)
        0.01

    References:
        Phipson and Smyth, Permutation p-values should never be zero, 2010. Cohen, Statistical power analysis, 1988: the effect
        size, with the random directions as the control group.
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
    rounding = 1e-6 * tf.abs(of_natural)  # ties count for both p-values
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
    """Returns the probability that one additional mean exceeds the others by as much, if all are from one normal distribution.

    Args:
        leads: Float32 `[bases]`, the differences between this mean and each of the others.
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
