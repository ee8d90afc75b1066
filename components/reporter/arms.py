"""Section of the report: training variants compared over seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import nan
from typing import Any

import numpy as np

from components.reporter.arm_networks import Arms, mean_of, mean_rate
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
_TOLD_ONE_BY_ONE = 3  # more arms than the first and these: the lead tells of the best alone


def error_table(arms: Arms) -> Table:
    """A row for every arm: its errors, their average, and how it differs from the first on the same images."""
    rows: list[dict[str, Cell]] = []
    for name, networks in arms.networks.items():
        compared = name != arms.first
        pooled = arms.pooled(name)
        rows.append(
            {
                "Arm": name,
                **{f"Seed {network.training['seed']}": network.errors for network in networks},
                "Mean error": arms.error(name),
                "Change": mean_rate([pair.difference for pair in arms.pairs(name)]) if compared else None,
                "Spoiled": pooled.spoiled if compared else None,
                "Mended": pooled.mended if compared else None,
                "p": pooled.p_value if compared else None,
            }
        )
    published = published_rows("arm_errors", arms.networks, rows[0])
    return Table(
        name="arm_errors",
        title=f"Errors on {arms.tested_on} of networks that differ in training alone.",
        columns=tuple(rows[0]),
        rows=tuple(rows),
        notes=(
            f"Change: of the error against {arms.first}, averaged over seeds, in points. Spoiled: images, over all seeds, that "
            "this one gets wrong and the first of the same seed right; mended: the other way round. p: exact McNemar test of "
            "these counts, two-sided; it takes an image under several seeds for several images: read it beside the interval.",
            *(("The paper says below 1.2 % of pools at every layer, and about 1.3 % of dropout.",) if any(published) else ()),
        ),
        published=published if any(published) else (),
    )


def seed_table(arms: Arms) -> Table:
    """Every network as a row, for files."""
    rows: list[dict[str, Cell]] = []
    for name, networks in arms.networks.items():
        for network, pair in zip(networks, arms.pairs(name), strict=True):
            rows.append(
                {
                    "Network": f"{name}, seed {network.training['seed']}",
                    "Training error": Proportion(*network.training["train_errors"]),
                    "Error": network.errors,
                    "Change": MeanRate(pair.difference, nan, nan, 1),
                    "Spoiled": pair.spoiled,
                    "Mended": pair.mended,
                    "p": pair.p_value,
                    "Least distortion": mean_of(network.distortion),
                    "Certified": mean_of(network.certified),
                }
            )
    title = f"Every network, against that of {arms.first} of the same seed."
    return Table(name="arm_seeds", title=title, columns=tuple(rows[0]), rows=tuple(rows))


def robustness_table(arms: Arms) -> Table:
    """A row for every arm: how far its images are from a wrong class, and whether those of the first arm fool it."""
    rows: list[dict[str, Cell]] = []
    for name, networks in arms.networks.items():
        compared = name != arms.first
        transferred = [network.transferred for network in networks if network.transferred]
        rows.append(
            {
                "Arm": name,
                "Least distortion": arms.distortion(name),
                "Times the first": arms.ratio(name) if compared else None,
                "Fooled by the first's": Proportion(*map(sum, zip(*transferred))) if compared else None,
                "Certified": Estimate.of(mean_of(network.certified) for network in networks),
                "Found": Proportion(
                    sum(int(network.found.sum()) for network in networks),
                    sum(network.found.size for network in networks),
                ),
            }
        )
    return Table(
        name="arm_robustness",
        title="Distortion to a random wrong class, and error rates on the images that were distorted for the baseline.",
        columns=tuple(rows[0]),
        rows=tuple(rows),
        notes=(
            f"Images of {arms.tested_on}, the same ones and the same classes for all arms of a seed. Least distortion: "
            "average over images that the network classified correctly before. Times the first: image "
            f"by image, geometric mean. Fooled by the first's: errors on images made against {arms.first} of the same seed, of "
            "those whose originals were right. Certified: mean certified distortion of that class. Found: share "
            "of attacks that succeeded.",
        ),
    )


def round_table(training: Mapping[str, Any]) -> Table:
    """What happened in the last round of every epoch of one training, as training.json tells it."""
    layers = list(training["rounds"][0]["pool_losses"])
    rows: list[dict[str, Cell]] = [
        {
            "Epochs": f"{record['num_epochs']:g}",
            "Loss": record["clean_loss"],
            **{f"Loss, {layer}": record["pool_losses"][layer] if record["num_tried"] else None for layer in layers},
            **{f"Least distortion, {layer}": record["least_distortions"].get(layer) for layer in layers},
            **{
                f"Found, {layer}": Proportion(record["num_found"].get(layer, 0), record["num_tried"].get(layer, 0))
                for layer in layers
            },
        }
        for record in training["rounds"]
        if record["num_epochs"] % 1 == 0
    ]
    return Table(
        name="rounds",
        title=f"Training of {training['name']}, in the last round of every epoch: the loss on clean images and on every pool, "
        "and the attacks.",
        columns=tuple(rows[0]),
        rows=tuple(rows),
    )


def arm_figures(arms: Arms) -> dict[str, tuple[bytes, str]]:
    """Draws the errors, the distances, and the rounds of every arm that has pools."""
    errors = {name: [network.errors.rate for network in networks] for name, networks in arms.networks.items()}
    printed = {name: PUBLISHED["arm_errors"][name]["Mean error"] for name in errors if name in PUBLISHED["arm_errors"]}
    dots = seed_dots(errors, title=f"Errors on {arms.tested_on}", published=printed)
    figures = {"arm_errors": (to_png(dots), "Each dot is the network of one seed.")}
    if arms.attacked:
        distances = {
            name: np.concatenate([network.distortion for network in networks]) for name, networks in arms.networks.items()
        }
        drawn = distortion_distributions(distances, title="Least distortion of each image")
        figures["arm_distortion"] = (to_png(drawn), "Each dot is one image attacked on one network, all seeds together.")
    for number, (name, networks) in enumerate(arms.networks.items(), start=1):
        if "rounds" in networks[0].training:
            curves = round_curves([_curves(network.training) for network in networks], title=f"The pools of {name}")
            caption = (
                f"{name}, a line for each seed: loss on clean images and on the examples of every pool, and how little the new "
                "examples of a layer had to be distorted."
            )
            figures[f"arm_rounds_{number}"] = (to_png(curves), caption)
    return figures


def _curves(training: Mapping[str, Any]) -> RoundCurves:
    rounds = training["rounds"]
    layers = list(rounds[0]["pool_losses"])
    return RoundCurves(
        num_epochs=[record["num_epochs"] for record in rounds],
        losses={_CLEAN: [record["clean_loss"] for record in rounds]}
        | {layer: [record["pool_losses"][layer] or nan for record in rounds] for layer in layers},
        distortions={layer: [record["least_distortions"].get(layer) or nan for record in rounds] for layer in layers},
    )


def arm_lead(arms: Arms) -> str:
    """The finding in numbers, whichever way it went."""
    num_seeds = len(arms.networks[arms.first])
    best = min(arms.others, key=lambda name: arms.error(name).value)
    few = len(arms.others) <= _TOLD_ONE_BY_ONE
    told = arms.others if few else [best]
    chosen = "" if few else f", the best of {len(arms.others)} others and chosen on these very images,"
    averaged = "" if num_seeds == 1 else f", averaged over {num_seeds} seeds"
    errors = [f"{arms.first} errs on {100 * arms.error(arms.first).value:.2f} % of {arms.tested_on}{averaged}"]
    errors += [f"{name}{chosen} on {_told(arms, name)}" for name in told]
    sentences = ["; ".join(errors) + "."]
    if arms.attacked and all(np.isfinite(arms.ratio(name).value) for name in told):
        farther = "; ".join(f"{arms.ratio(name).value:.2f} times as far for {name}" for name in told)
        sentences.append(
            f"The nearest image of a random wrong class lies at a distortion of {arms.distortion(arms.first).value:.3f} for "
            f"{arms.first}; {farther}."
        )
    return " ".join(sentences)


def _told(arms: Arms, name: str) -> str:
    """Tells the error of an arm, and how sure it is that it differs: by the seeds, or if there is but one, by the images."""
    change = mean_rate([pair.difference for pair in arms.pairs(name)])
    less = f"{abs(100 * change.value):.2f} points {'less' if change.value < 0 else 'more'}"
    if change.num > 1:
        doubt = f"95 % interval {100 * change.lower:+.2f} to {100 * change.upper:+.2f}"
    else:
        doubt = f"p = {arms.pooled(name).p_value:.2g}"
    return f"{100 * arms.error(name).value:.2f} %, {less} ({doubt})"


def arm_section(arms: Arms, tables: Sequence[Table], figures: Mapping[str, tuple[bytes, str]]) -> Section:
    """Puts it all under one heading."""
    return Section(
        title="Training on adversarial examples",
        paragraphs=(
            "The arms differ in how one network is trained. A pool of adversarial examples is kept for each of some layers: "
            "activations that the layers above get wrong, though they are as near as can be to those of a training image. A "
            "part of every minibatch is drawn from the pools and trains the layers above its own; between rounds of training "
            "a part of each pool is made anew. The paper reports an improvement only with pools at every layer.",
        ),
        tables=tuple(tables),
        figures=tuple(figures.values()),
    )
