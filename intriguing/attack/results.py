"""The results of a search for the minimum distortion."""

from __future__ import annotations

import enum
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf


class SearchStatus(enum.IntEnum):
    """The outcome of the search for one image; `sentence` describes it."""

    NOT_FOUND = 0
    INITIALLY_ADVERSARIAL = 1
    CONVERGED = 2
    BUDGET_SPENT = 3
    LINE_SEARCH_FAILED = 4
    CONSTANT_LOGITS = 5
    NO_GRADIENT = 6
    NOT_FINITE = 7

    @property
    def sentence(self) -> str:
        """A description for reports."""
        return _SENTENCES[self]


_SENTENCES = {
    SearchStatus.NOT_FOUND: "not found",
    SearchStatus.INITIALLY_ADVERSARIAL: "initially adversarial: the clean image is already classified as wanted",
    SearchStatus.CONVERGED: "found, converged",
    SearchStatus.BUDGET_SPENT: "found, budget exhausted before convergence",
    SearchStatus.LINE_SEARCH_FAILED: "found, line search failed",
    SearchStatus.CONSTANT_LOGITS: "not found, all logits are equal up to rounding",
    SearchStatus.NO_GRADIENT: "not found, no gradient: the network rounds, blocks or saturates its input",
    SearchStatus.NOT_FINITE: "not searched, the network returns NaN or infinity for this image",
}


class FoundImages(NamedTuple):
    """The results of the compiled program, one row per input image; the fields are those of `DistortionResults`."""

    distorted: tf.Tensor  # [batch, ...]
    distortion: tf.Tensor  # [batch]
    succeeded: tf.Tensor  # [batch] bool
    status: tf.Tensor  # [batch] int32
    c: tf.Tensor  # [batch]
    num_evaluations: tf.Tensor  # [batch] int32


class DistortionResults(NamedTuple):
    """The nearest distorted images found, one row per input image.

    `print(results)` shows how many images succeeded, the distortion of those that were not initially adversarial, and the cost
    of the search.

    Attributes:
        distorted: Float32 `[batch, ...]`, inside the bounds; the clean image if not succeeded.
        perturbation: Float32 `[batch, ...]`, `distorted - images`; zero if not succeeded.
        distortion: Float32 `[batch]`, root-mean-square pixel change, `sqrt(mean(perturbation**2))`; NaN if not succeeded.
        l2: Float32 `[batch]`, `sqrt(sum(perturbation**2))`; NaN if not succeeded.
        succeeded: Bool `[batch]`: whether the classifier predicts the target, or another class than the label, for `distorted`.
        status: Int32 `[batch]`, a `SearchStatus`.
        num_evaluations: Int32 `[batch]`, gradient evaluations during the search of this image, at most `max_evaluations`. A
            line search of L-BFGS makes the same number for all images of a batch.
        c: Float32 `[batch]`, the weight in `c * sum(r**2) + loss` at which the gradients of both terms are equally long; NaN if
            not succeeded, infinite for images that are initially adversarial.
    """

    distorted: tf.Tensor
    perturbation: tf.Tensor
    distortion: tf.Tensor
    l2: tf.Tensor
    succeeded: tf.Tensor
    status: tf.Tensor
    num_evaluations: tf.Tensor
    c: tf.Tensor

    def to_numpy(self) -> DistortionResults:
        """Returns the same fields as NumPy arrays.

        Example:
            >>> arrays = minimize_distortion(model, images[:8], labels=labels[:8]).to_numpy()
            >>> arrays.distortion.shape
            (8,)
        """
        return DistortionResults(*(np.asarray(field) for field in self))

    def __str__(self) -> str:
        arrays = self.to_numpy()
        number, found = len(arrays.status), arrays.succeeded
        lines = [f"{np.count_nonzero(found)} of {number} images succeeded."]
        for status in SearchStatus:
            if count := np.count_nonzero(arrays.status == status):
                lines.append(f"  {count:{len(str(number))}} {status.sentence}")
        attacked = found & (arrays.status != SearchStatus.INITIALLY_ADVERSARIAL)
        if (count := np.count_nonzero(attacked)) and count < np.count_nonzero(found):
            of_which = f" of the {count} found images that were not initially adversarial"
        else:
            of_which = ""
        if count:
            lines.append(f"Distortion (RMS pixel change){of_which}: {_summary(arrays.distortion[attacked])}.")
        if number:
            mean, most = np.mean(arrays.num_evaluations), np.max(arrays.num_evaluations)
            lines.append(f"Gradient evaluations per image: mean {mean:.0f}, at most {most}.")
        return "\n".join(lines)


def _summary(values: Any) -> str:
    low, median, high = np.quantile(values, [0.25, 0.5, 0.75])
    return f"mean {np.mean(values):.4g}, quartiles {low:.4g}, {median:.4g}, {high:.4g}"
