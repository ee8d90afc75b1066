"""The error rates of several models on several sets of distorted images, as rows, records or text."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from math import isnan
from typing import NamedTuple

import tensorflow as tf

from intriguing.evaluation.transfer import ErrorRates
from intriguing.statistics.proportions import Proportion

DISTORTED, AMPLIFIED, NOISE, UNCLIPPED_NOISE = "distorted", "amplified", "noise", "unclipped noise"
"""The kinds of changed images."""

_HEADER = ("Source model", "Images", "Amount", "Distortion", "Number")


class TransferRow(NamedTuple):
    """The error rates of all models on one set of changed images."""

    kind: str  # "distorted", "amplified", "noise" or "unclipped noise"
    source_model: str  # the model that was attacked; "" for noise
    amount: float | None  # the requested distortion or standard deviation; None for "distorted"
    mean_distortion: float  # the realized distortion, in pixel units; NaN if there is no image
    std_distortion: float  # the standard deviation of the sample; NaN if there are fewer than two images
    num_images: int
    rates: Mapping[str, ErrorRates]  # by the name of the evaluated model
    predictions: Mapping[str, tf.Tensor]  # [num_images] int32 for the changed images, by the name of the evaluated model


@dataclasses.dataclass(frozen=True)
class TransferMatrix:
    """Error rates of models (columns) on sets of changed images (rows). `print(matrix)` prints two tables.

    Attributes:
        rows: First the distorted images of every attack, then the amplified images, then the images with noise.
    """

    rows: tuple[TransferRow, ...]

    def to_rows(self) -> list[dict[str, str | int | float | None]]:
        """Returns a flat record for each pair of a row and an evaluated model, such as `pandas.DataFrame` takes.

        Fields with the suffix `_on_correct` refer to the images that the evaluated model classified correctly before they were
        changed, the others to all images. `lower` and `upper` are the ends of a 95 % Wilson interval. Undefined values, such as
        a rate without images, are NaN.
        """
        return [_record(row, name, rates) for row in self.rows for name, rates in row.rates.items()]

    def __str__(self) -> str:
        """Returns a table of the error rates on all images, and one on images that were classified correctly before."""
        on_all = _table(self.rows, lambda rates: rates.on_all)
        on_correct = _table(self.rows, lambda rates: rates.on_correct)
        return (
            f"Error rates in percent with 95 % intervals, on all images\n{on_all}\n\n"
            f"Error rates among images that the evaluated model classified correctly before\n{on_correct}"
        )


def _record(row: TransferRow, name: str, rates: ErrorRates) -> dict[str, str | int | float | None]:
    description = {
        "source_model": row.source_model,
        "evaluated_model": name,
        "kind": row.kind,
        "amount": row.amount,
        "mean_distortion": row.mean_distortion,
        "std_distortion": row.std_distortion,
    }
    return {**description, **_columns(rates.on_all, ""), **_columns(rates.on_correct, "_on_correct")}


def _columns(rate: Proportion, suffix: str) -> dict[str, int | float]:
    return {
        f"num_images{suffix}": rate.num_trials,
        f"num_errors{suffix}": rate.num_events,
        f"error_rate{suffix}": rate.rate,
        f"lower{suffix}": rate.lower,
        f"upper{suffix}": rate.upper,
    }


def _table(rows: Sequence[TransferRow], of: Callable[[ErrorRates], Proportion]) -> str:
    names = list(rows[0].rates) if rows else []
    lines = [(*_HEADER, *names)] + [(*_description(row), *(_cell(of(row.rates[name])) for name in names)) for row in rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def _description(row: TransferRow) -> tuple[str, ...]:
    amount = "" if row.amount is None else f"{row.amount:g}"
    return row.source_model, row.kind, amount, _or_dash(row.mean_distortion, f"{row.mean_distortion:.4g}"), str(row.num_images)


def _cell(rate: Proportion) -> str:
    return _or_dash(rate.rate, f"{100 * rate.rate:.1f} [{100 * rate.lower:.1f}, {100 * rate.upper:.1f}]")


def _or_dash(value: float, text: str) -> str:
    return "-" if isnan(value) else text
