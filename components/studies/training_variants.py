"""The networks of training variants: read once, averaged over seeds, and paired image by image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import nan
from typing import NamedTuple

import numpy as np

from components.artifacts import DistortedImages, SpectralBounds, TrainedModel, TransferRates
from components.records import NetworkRecord
from intriguing.reporting import Estimate, MeanRate
from intriguing.statistics.proportions import Proportion, sign_test


class TrainedVariant(NamedTuple):
    """One network of a training variant, compared with that of the baseline of the same seed."""

    training: NetworkRecord
    errors: Proportion
    wrong: frozenset[int]  # rows of the images that it misclassifies
    distortion: np.ndarray  # [images], NaN where the attack failed or the image was misclassified before; empty if not attacked
    found: np.ndarray  # [images] bool; empty likewise
    certified: np.ndarray  # [images]; empty likewise
    transferred: (
        Proportion | None
    )  # errors on distorted images of the baseline, of those it classified correctly; None likewise

    @property
    def name(self) -> str:
        """Of the training variant."""
        return self.training.name


class Pairs(NamedTuple):
    """Images on which two networks of one seed differ, and how far."""

    newly_wrong: int  # classified correctly by the baseline's network, wrongly by this one
    newly_correct: int  # the other way round
    difference: float  # of the errors, as a share of all images

    @property
    def p_value(self) -> float:
        """Of the exact test that the two are equally good."""
        return sign_test(self.newly_wrong, self.newly_correct)


class TrainingVariants(NamedTuple):
    """The networks of every training variant in the order of seeds; the baseline is the first variant."""

    tested_on: str
    networks: Mapping[str, Sequence[TrainedVariant]]

    @property
    def baseline(self) -> str:
        """Its name."""
        return next(iter(self.networks))

    @property
    def others(self) -> list[str]:
        """The names of all but the baseline."""
        return list(self.networks)[1:]

    @property
    def attacked(self) -> bool:
        """Whether there is more than errors."""
        return self.networks[self.baseline][0].transferred is not None

    def error(self, name: str) -> MeanRate:
        """Returns the error of a variant, averaged over seeds; of one network, with Wilson's interval."""
        rates = [network.errors for network in self.networks[name]]
        if len(rates) == 1:
            return MeanRate(rates[0].rate, rates[0].lower, rates[0].upper, 1)
        return mean_rate([rate.rate for rate in rates])

    def pairs(self, name: str) -> list[Pairs]:
        """Compares a variant with the baseline, seed by seed, on the same images."""
        pairs = []
        for baseline, other in zip(self.networks[self.baseline], self.networks[name], strict=True):
            newly_wrong, newly_correct = len(other.wrong - baseline.wrong), len(baseline.wrong - other.wrong)
            pairs.append(Pairs(newly_wrong, newly_correct, (newly_wrong - newly_correct) / other.errors.num_trials))
        return pairs

    def pooled(self, name: str) -> Pairs:
        """Adds the counts of all seeds up."""
        newly_wrong, newly_correct, difference = zip(*self.pairs(name), strict=True)
        return Pairs(sum(newly_wrong), sum(newly_correct), sum(difference) / len(difference))

    def distortion(self, name: str) -> Estimate:
        """Returns the average least distortion of a variant."""
        return Estimate.of(mean_of(network.distortion) for network in self.networks[name])

    def ratio(self, name: str) -> Estimate:
        """Returns the ratio of least distortions to those of the baseline, image by image: geometric means."""
        return Estimate.of(
            float(np.exp(mean_of(np.log(_where_both(other.distortion, baseline.distortion)))))
            for baseline, other in zip(self.networks[self.baseline], self.networks[name], strict=True)
        )


def mean_rate(rates: Sequence[float]) -> MeanRate:
    """Averages shares over seeds."""
    return MeanRate(*Estimate.of(rates))


def mean_of(values: np.ndarray) -> float:
    """Averages what is finite; NaN for nothing."""
    finite = values[np.isfinite(values)]
    return float(finite.mean(dtype=np.float64)) if finite.size else nan


def _where_both(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Returns the ratio of what is known of both and not wrong from the start, NaN elsewhere."""
    both = (ours > 0) & (theirs > 0)
    return np.divide(ours, theirs, out=np.full(ours.shape, nan), where=both)


def read(
    models: Sequence[TrainedModel],
    attacks: Sequence[DistortedImages],
    bounds: Sequence[SpectralBounds],
    rates: Sequence[TransferRates],
) -> TrainingVariants:
    """Reads the artifacts: for each seed the variants in one order, and one set of rates; attacks and bounds may be missing."""
    num_variants = len(models) // len(rates)
    networks: dict[str, list[TrainedVariant]] = {}
    tested_on = ""
    for number, model in enumerate(models):
        counted, training = rates[number // num_variants].record(), model.record()
        ((tested_on, errors),) = counted.errors.items()
        nothing = np.zeros(0)
        attacked = attacks[number].arrays() if attacks else {}
        networks.setdefault(training.name, []).append(
            TrainedVariant(
                training=training,
                errors=errors[training.name],
                wrong=frozenset(counted.wrong[tested_on][training.name]),
                distortion=np.where(attacked["correct"], attacked["distortion"], nan) if attacked else nothing,
                found=attacked["succeeded"] if attacked else nothing,
                certified=bounds[number].arrays()["certified"] if bounds else nothing,
                transferred=counted.changed[0].errors[training.name].on_correct if attacks else None,
            )
        )
    return TrainingVariants(tested_on, networks)
