"""The work of TransferEvaluator."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from components.artifacts import DistortedImages, Subset, TrainedModel
from components.contract import Artifacts, Executor, Parameters
from components.example_gen.executor import card_of
from intriguing.attack.gaussian_noise import add_gaussian_noise
from intriguing.data import load_examples
from intriguing.distortion import amplify
from intriguing.evaluation.predictions import predict
from intriguing.evaluation.transfer import transfer_rates
from intriguing.statistics.proportions import Proportion


class _ChangedImages(NamedTuple):
    kind: str  # "distorted", "amplified", "noise" or "unclipped noise"
    made_for: str  # the network, or nothing for noise
    amount: float | None  # the distortion or standard deviation asked for
    clean: tf.Tensor
    changed: tf.Tensor
    labels: tf.Tensor
    distortion: tf.Tensor


class TransferEvaluatorExecutor(Executor):
    """Counts errors; images for which the attack failed are left out, since they are not changed."""

    def Do(self, input_dict: Artifacts, output_dict: Artifacts, exec_properties: Parameters) -> None:
        """Writes `TransferRates`."""
        networks = _networks(input_dict["models"])
        for artifact in input_dict["distorted"]:
            _check_fits(networks, artifact)
        changed_sets = list(_changed_sets(input_dict["distorted"], exec_properties))
        total = len(input_dict["subsets"]) + len(changed_sets)
        errors, wrong, rates = {}, {}, []
        for subset in input_dict["subsets"]:
            split, mistakes, num_examples = _mistakes(networks, subset)
            wrong[split] = mistakes
            errors[split] = {name: list(Proportion(len(rows), num_examples)) for name, rows in mistakes.items()}
            self.progress(len(errors), total, "clean images")
        for changed in changed_sets:
            rates.append(_induced_errors(networks, changed))
            self.progress(len(errors) + len(rates), total, changed.kind)
        output_dict["rates"][0].write_json(
            "rates.json",
            {
                "networks": list(networks),
                "num_classes": {name: model.output_shape[-1] for name, model in networks.items()},
                "errors": errors,
                "wrong": wrong,
                "changed": rates,
                "noise_seed": exec_properties["seed"],
            },
        )


def _networks(models: Sequence[TrainedModel]) -> dict[str, keras.Model]:
    names = [trained.training()["name"] for trained in models]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ValueError(
            f"networks that are compared must have names of their own; received {repeated[0]!r} more than once. Train one of "
            "them with another --name, or give its file another name."
        )
    return {name: trained.load() for name, trained in zip(names, models, strict=True)}


def _check_fits(networks: Mapping[str, keras.Model], distorted: DistortedImages) -> None:
    """Raises a `ValueError` if a network takes other images than those that were changed, or lacks a class of theirs."""
    arrays, about = distorted.arrays(), distorted.attack()
    shape, largest = list(arrays["images"].shape[1:]), int(arrays["labels"].max(initial=-1))
    for name, model in networks.items():
        wanted, num_classes = list(model.input_shape[1:]), model.output_shape[-1]
        if len(wanted) != len(shape) or any(want not in (None, size) for want, size in zip(wanted, shape)):
            raise ValueError(
                f"the network {name} takes images {wanted}; those that were distorted for {about['name']} are {shape}. "
                "Transfer is measured between networks of one image size; leave one of the two out."
            )
        if largest >= num_classes:
            raise ValueError(
                f"the network {name} has {num_classes} classes; an image that was distorted for {about['name']} is of class "
                f"{largest}. Compare networks of the same classes."
            )


def _changed_sets(distorted: Sequence[DistortedImages], parameters: Mapping[str, Any]) -> Iterator[_ChangedImages]:
    attacks = [(artifact.attack()["name"], _succeeded(artifact.arrays())) for artifact in distorted]
    for name, arrays in attacks:
        yield _ChangedImages(
            "distorted", name, None, arrays["images"], arrays["distorted"], arrays["labels"], arrays["distortion"]
        )
    for amount in parameters["amplify_to"]:
        for name, arrays in attacks:
            moved = amplify(arrays["images"], arrays["distorted"], to_distortion=amount)
            yield _ChangedImages("amplified", name, amount, arrays["images"], moved.images, arrays["labels"], moved.distortion)
    if not distorted:
        return
    # The control: noise on the very images that were attacked.
    sample = distorted[0].arrays()
    clean, labels = tf.constant(sample["images"]), tf.constant(sample["labels"])
    for kind, options in (("noise", {}), ("unclipped noise", {"pixel_box": None})):
        for amount in parameters["noise" if kind == "noise" else "unclipped_noise"]:
            noisy = add_gaussian_noise(clean, standard_deviation=amount, seed=parameters["seed"], **options)
            yield _ChangedImages(kind, "", amount, clean, noisy.images, labels, noisy.distortion)


def _succeeded(arrays: dict[str, np.ndarray]) -> dict[str, tf.Tensor]:
    return {name: tf.constant(arrays[name][arrays["succeeded"]]) for name in ("images", "distorted", "labels", "distortion")}


def _mistakes(networks: Mapping[str, keras.Model], subset: Subset) -> tuple[str, dict[str, list[int]], int]:
    """Returns the rows of a subset that each network gets wrong, and how many rows there are."""
    card, split = card_of(subset)
    examples = load_examples(card, split)
    wrong = {name: predict(model, examples.images).numpy() != examples.labels.numpy() for name, model in networks.items()}
    return split, {name: np.flatnonzero(rows).tolist() for name, rows in wrong.items()}, len(examples.labels)


def _induced_errors(networks: Mapping[str, keras.Model], changed: _ChangedImages) -> dict[str, Any]:
    rates, answers = {}, {}
    for name, model in networks.items():
        answered = predict(model, changed.changed)
        found = transfer_rates(answered, predict(model, changed.clean), changed.labels)
        rates[name] = {"on_all": list(found.on_all), "on_correct": list(found.on_correct)}
        answers[name] = answered.numpy().tolist()
    distortion = changed.distortion.numpy()
    return {
        "kind": changed.kind,
        "made_for": changed.made_for,
        "amount": changed.amount,
        "mean_distortion": float(np.mean(distortion)) if len(distortion) else None,
        "std_distortion": float(np.std(distortion, ddof=1)) if len(distortion) > 1 else None,
        "num_images": len(distortion),
        "errors": rates,
        "answers": answers,
    }
