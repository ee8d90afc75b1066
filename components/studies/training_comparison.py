"""Section 4: ways to train a network, compared on the same images over several seeds."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from math import nan
from typing import NamedTuple

import numpy as np

from components.artifacts import DistortedImages, SpectralBounds, TrainedModel, TransferRates
from components.contract import Artifacts, Component, Parameters
from components.records import NetworkRecord
from components.studies.networks import AttackSettings, StudyNetwork, bounds_of, check_networks, training_facts
from components.studies.plan import Plan, Split
from components.studies.sections import Figures, SectionContent, SectionExecutor, SectionStep
from components.studies.study import Part
from components.studies.training_variants import TrainingVariants, mean_of, mean_rate, read
from components.transfer_evaluator.component import TransferEvaluator
from intriguing.reporting import (
    PUBLISHED,
    Cell,
    Estimate,
    MeanRate,
    RoundCurves,
    Section,
    Table,
    distortion_distributions,
    published_rows,
    round_curves,
    seed_dots,
    to_png,
)
from intriguing.statistics.proportions import Proportion

_CLEAN = "clean images"
_MOST_IN_LEAD = 3  # with more variants than these and the baseline, the lead reports the best alone


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingComparison(Part):
    """Compares training variants on the same images over several seeds.

    Attributes:
        variants: What is trained; the first is the baseline, with which the others are compared.
        num_seeds: Networks of each variant, whose seeds follow that of the run.
        trained_on: Subset for training.
        tested_on: Subset on which errors are counted, and of which images are attacked.
        attack: How each network is attacked, on the same images for all variants of a seed; None for errors alone: no
            attacks, no transfer, no certificates.
    """

    variants: tuple[StudyNetwork, ...]
    num_seeds: int = 3
    trained_on: str = "train"
    tested_on: str = "test"
    attack: AttackSettings | None = AttackSettings()

    def __post_init__(self) -> None:
        check_networks(self.variants, at_least=2, argument="variants")
        if self.num_seeds < 1:
            raise ValueError(f"num_seeds must be positive; received {self.num_seeds}.")

    def add_to(self, plan: Plan) -> SectionStep:
        """Adds for each seed in turn the networks of all variants, attacks on them, their bounds and their errors."""
        steps = _Steps([], [], [], [])
        for seed in range(plan.seed, plan.seed + self.num_seeds):
            self._add_seed(plan.with_seed(seed), steps)
        return plan.add(VariantSection, "section_training_variants", **steps._asdict())

    def facts(self) -> Mapping[str, str]:
        """Returns the settings of the comparison and of each training."""
        facts = {
            "Training variants": f"{self.num_seeds} seeds, trained on {self.trained_on}, tested on {self.tested_on}",
            "Attack on each variant": str(self.attack.settings) if self.attack else "none",
        }
        return facts | training_facts(self.variants)

    def _add_seed(self, plan: Plan, steps: _Steps) -> None:
        train = Split(self.trained_on, name="variants_train")
        test = Split(self.tested_on, disjoint_from=(self.trained_on,), name="variants_test")
        models = [variant.step(plan, train, f"_seed{plan.seed}") for variant in self.variants]
        attacks = [self.attack.step(plan, model, test) for model in models] if self.attack else []
        steps.bounds.extend(bounds_of(plan, model, attack) for model, attack in zip(models, attacks))
        # All variants are evaluated on the images that were distorted for the baseline.
        rates = plan.add(
            TransferEvaluator, f"errors_of_variants_seed{plan.seed}", models=models, distorted=attacks[:1],
            subsets=[plan.subset(test)], amplify_to=[], noise=[], unclipped_noise=[], seed=plan.seed,
        )  # fmt: skip
        steps.models.extend(models)
        steps.attacks.extend(attacks)
        steps.rates.append(rates)


class _Steps(NamedTuple):
    """The steps of a comparison by kind: for each seed in turn, all variants in their order."""

    models: list[Component]
    attacks: list[Component]
    bounds: list[Component]
    rates: list[Component]


class VariantSectionExecutor(SectionExecutor):
    """Shows errors, and where networks were attacked, how far their images are from a wrong class."""

    def content(self, input_dict: Artifacts, exec_properties: Parameters) -> SectionContent:
        """Returns what the section shows."""
        variants = read(*(input_dict[name] for name in _Steps._fields))
        tables, figures = [error_table(variants)], variant_figures(variants)
        if variants.attacked:
            tables.append(robustness_table(variants))
        section = variant_section(tables, figures)
        return SectionContent([section], figures, variant_lead(variants), [seed_table(variants)])


class VariantSection(SectionStep):
    """Inputs: for each seed in turn the networks, attacks and bounds of all variants; and the errors of each seed."""

    INPUTS = {"models": TrainedModel, "attacks": DistortedImages, "bounds": SpectralBounds, "rates": TransferRates}
    EXECUTOR = VariantSectionExecutor


def error_table(variants: TrainingVariants) -> Table:
    """A row for every training variant: its errors, their average, and the change against the baseline on the same images."""
    rows: list[dict[str, Cell]] = []
    for name, networks in variants.networks.items():
        compared = name != variants.baseline
        pooled = variants.pooled(name)
        rows.append(
            {
                "Training": name,
                **{f"Seed {network.training.seed}": network.errors for network in networks},
                "Mean error": variants.error(name),
                "Change": mean_rate([pair.difference for pair in variants.pairs(name)]) if compared else None,
                "Newly wrong": pooled.newly_wrong if compared else None,
                "Newly correct": pooled.newly_correct if compared else None,
                "p": pooled.p_value if compared else None,
            }
        )
    published = published_rows("variant_errors", variants.networks, rows[0])
    return Table.from_rows(
        "variant_errors",
        f"Errors on {variants.tested_on} of networks that differ in training alone.",
        rows,
        notes=(
            f"Change: of the error against {variants.baseline}, the baseline, averaged over seeds, in points. Newly wrong: "
            "images, over all seeds, that the baseline of the same seed classifies correctly and this network does not; newly "
            "correct: the other way round. p: exact McNemar test of these counts, two-sided. The test counts an image once for "
            "each seed, as if these were different images: compare it with the interval.",
            *(
                ("The paper prints below 1.2 % for pools at every layer, and about 1.3 % for dropout.",)
                if any(published)
                else ()
            ),
        ),
        published=published if any(published) else (),
    )


def seed_table(variants: TrainingVariants) -> Table:
    """Every network as a row, for files."""
    rows: list[dict[str, Cell]] = []
    for name, networks in variants.networks.items():
        for network, pair in zip(networks, variants.pairs(name), strict=True):
            rows.append(
                {
                    "Network": f"{name}, seed {network.training.seed}",
                    "Training error": network.training.train_errors,
                    "Error": network.errors,
                    "Change": MeanRate(pair.difference, nan, nan, 1),
                    "Newly wrong": pair.newly_wrong,
                    "Newly correct": pair.newly_correct,
                    "p": pair.p_value,
                    "Least distortion": mean_of(network.distortion),
                    "Certified": mean_of(network.certified),
                }
            )
    title = f"Every network, against that of {variants.baseline} of the same seed."
    return Table.from_rows("variant_seeds", title, rows)


def robustness_table(variants: TrainingVariants) -> Table:
    """A row for every training variant: the distortion of its nearest images, and its errors on those of the baseline."""
    rows: list[dict[str, Cell]] = []
    for name, networks in variants.networks.items():
        compared = name != variants.baseline
        transferred = [network.transferred for network in networks if network.transferred]
        rows.append(
            {
                "Training": name,
                "Least distortion": variants.distortion(name),
                "Ratio to baseline": variants.ratio(name) if compared else None,
                "Error on baseline's images": Proportion(*map(sum, zip(*transferred))) if compared else None,
                "Certified": Estimate.of(mean_of(network.certified) for network in networks),
                "Succeeded": Proportion(
                    sum(int(network.found.sum()) for network in networks),
                    sum(network.found.size for network in networks),
                ),
            }
        )
    return Table.from_rows(
        "variant_robustness",
        "Distortion to a random wrong class, and error rates on the images that were distorted for the baseline.",
        rows,
        notes=(
            f"Images of {variants.tested_on}, the same ones with the same targets for all variants of a seed. Least "
            "distortion: average over images that the network classified correctly before. Ratio to baseline: image by "
            "image, geometric mean. Error on baseline's images: on images that were distorted for "
            f"{variants.baseline} of the same seed, among those whose originals were classified correctly. Certified: mean "
            "certified distortion. Succeeded: share of "
            "attacks that succeeded.",
        ),
    )


def round_table(training: NetworkRecord) -> Table:
    """Returns what happened in the last round of every epoch of one training."""
    layers = list(training.rounds[0].pool_losses)
    rows: list[dict[str, Cell]] = [
        {
            "Epochs": f"{record.num_epochs:g}",
            "Loss": record.clean_loss,
            **{f"Loss, {layer}": record.pool_losses[layer] if record.num_tried else None for layer in layers},
            **{f"Least distortion, {layer}": record.least_distortions.get(layer) for layer in layers},
            **{
                f"Succeeded, {layer}": Proportion(record.num_found.get(layer, 0), record.num_tried.get(layer, 0))
                for layer in layers
            },
        }
        for record in training.rounds
        if record.num_epochs % 1 == 0
    ]
    return Table.from_rows(
        "rounds",
        f"Training of {training.name}, in the last round of every epoch: the loss on clean images and on every pool, "
        "and the attacks.",
        rows,
    )


def variant_figures(variants: TrainingVariants) -> dict[str, tuple[bytes, str]]:
    """Draws the errors, the distances, and the rounds of every variant that has pools."""
    errors = {name: [network.errors.rate for network in networks] for name, networks in variants.networks.items()}
    printed = {name: PUBLISHED["variant_errors"][name]["Mean error"] for name in errors if name in PUBLISHED["variant_errors"]}
    dots = seed_dots(errors, title=f"Errors on {variants.tested_on}", published=printed)
    figures = {"variant_errors": (to_png(dots), "Each dot is the network of one seed.")}
    if variants.attacked:
        distances = {
            name: np.concatenate([network.distortion for network in networks]) for name, networks in variants.networks.items()
        }
        drawn = distortion_distributions(distances, title="Least distortion of each image")
        figures["variant_distortion"] = (to_png(drawn), "Each dot is one image attacked on one network, all seeds together.")
    for number, (name, networks) in enumerate(variants.networks.items(), start=1):
        if networks[0].training.rounds:
            curves = round_curves([_curves(network.training) for network in networks], title=f"The pools of {name}")
            caption = (
                f"{name}, a line for each seed: loss on clean images and on the examples of every pool, and how little the new "
                "examples of a layer had to be distorted."
            )
            figures[f"variant_rounds_{number}"] = (to_png(curves), caption)
    return figures


def _curves(training: NetworkRecord) -> RoundCurves:
    rounds = training.rounds
    layers = list(rounds[0].pool_losses)
    return RoundCurves(
        num_epochs=[record.num_epochs for record in rounds],
        losses={_CLEAN: [record.clean_loss for record in rounds]}
        | {layer: [record.pool_losses[layer] or nan for record in rounds] for layer in layers},
        distortions={layer: [record.least_distortions.get(layer) or nan for record in rounds] for layer in layers},
    )


def variant_lead(variants: TrainingVariants) -> str:
    """The finding in numbers, whichever way it went."""
    num_seeds = len(variants.networks[variants.baseline])
    best = min(variants.others, key=lambda name: variants.error(name).value)
    few = len(variants.others) <= _MOST_IN_LEAD
    named = variants.others if few else [best]
    chosen = "" if few else f", the best of {len(variants.others)} others and chosen on these very images,"
    averaged = "" if num_seeds == 1 else f", averaged over {num_seeds} seeds"
    errors = [
        f"{variants.baseline} errs on {100 * variants.error(variants.baseline).value:.2f} % of {variants.tested_on}{averaged}"
    ]
    errors += [f"{name}{chosen} on {_change(variants, name)}" for name in named]
    sentences = ["; ".join(errors) + "."]
    if variants.attacked and all(np.isfinite(variants.ratio(name).value) for name in named):
        farther = "; ".join(f"{variants.ratio(name).value:.2f} times as far for {name}" for name in named)
        nearest = variants.distortion(variants.baseline).value
        sentences.append(
            f"The nearest image of a random wrong class has a distortion of {nearest:.3f} for {variants.baseline}; {farther}."
        )
    return " ".join(sentences)


def _change(variants: TrainingVariants, name: str) -> str:
    """Returns in words the error of a variant, its change, and the interval over seeds; for one seed, the p-value."""
    change = mean_rate([pair.difference for pair in variants.pairs(name)])
    less = f"{abs(100 * change.value):.2f} points {'less' if change.value < 0 else 'more'}"
    if change.num > 1:
        doubt = f"95 % interval {100 * change.lower:+.2f} to {100 * change.upper:+.2f}"
    else:
        doubt = f"p = {variants.pooled(name).p_value:.2g}"
    return f"{100 * variants.error(name).value:.2f} %, {less} ({doubt})"


def variant_section(tables: Sequence[Table], figures: Figures) -> Section:
    """Puts it all under one heading."""
    return Section(
        title="Training on adversarial examples",
        paragraphs=(
            "The training variants differ in how one network is trained. Some layers have a pool of adversarial examples: "
            "activations near those of a training image that the layers above misclassify. A part of every minibatch is drawn "
            "from the pools and trains the layers above the pool; between rounds of training a part of each pool is "
            "renewed. The paper reports an improvement only with pools at every layer.",
        ),
        tables=tuple(tables),
        figures=tuple(figures.values()),
    )
