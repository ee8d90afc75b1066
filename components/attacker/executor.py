"""The work of Attacker."""

from __future__ import annotations

import dataclasses
from math import nan, prod
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from components.attacker.sampling import Sample, check_fits, sample, targets_of
from components.attacker.summaries import check_tensorboard, write_summaries
from components.contract import Artifacts, Executor, Parameters
from components.example_gen.executor import card_of
from components.records import AttackRecord, SearchRecord
from components.settings import search_from
from intriguing.attack import DistortionResults, DistortionSearch, SearchStatus, default_search, minimize_distortion
from intriguing.data import DatasetCard
from intriguing.distribution.strategy import writes_files
from intriguing.evaluation.predictions import predict
from intriguing.models.functional import split_weights

BYTES = 256  # levels of a pixel in a PNG file


class AttackerExecutor(Executor):
    """Samples images, draws random wrong targets, and searches for the nearest images of those classes."""

    def Do(self, input_dict: Artifacts, output_dict: Artifacts, exec_properties: Parameters) -> None:
        """Writes `DistortedImages`."""
        if exec_properties["log_dir"]:
            check_tensorboard()  # before the work, not after it
        trained, output = input_dict["model"][0], output_dict["distorted"][0]
        card, split = card_of(input_dict["subset"][0])
        model = trained.load()
        check_fits(model, card)
        search = search_from(exec_properties["search"], _default_search(model, card))
        drawn = sample(model, card, split, exec_properties)
        examples = drawn.examples
        targets = targets_of(examples, card, exec_properties)
        goal = {"targets": targets} if exec_properties["targeted"] else {"labels": examples.labels}
        results = self._attack(model, examples.images, goal, exec_properties["batch_size"], search)
        if exec_properties["log_dir"] and writes_files():
            write_summaries(exec_properties["log_dir"], results, exec_properties["batch_size"])
        predictions = predict(
            model, search.pixel_box.to_levels(results.distorted, BYTES), batch_size=exec_properties["batch_size"]
        )
        still_wrong = (
            predictions.numpy() == targets if exec_properties["targeted"] else predictions.numpy() != examples.labels.numpy()
        )
        output.write_arrays(
            {
                "images": examples.images.numpy(),
                "labels": examples.labels.numpy(),
                "ids": examples.ids.numpy().astype(np.bytes_),
                "targets": targets,
                "correct": drawn.correct,
                **{name: value.numpy() for name, value in results._asdict().items()},
                "survives_rounding": results.succeeded.numpy() & still_wrong,
            }
        )
        output.write_record(
            AttackRecord(
                name=trained.record().name,
                dataset=card.name,
                subset=split,
                class_names=card.class_names,
                search=_search_record(
                    results,
                    still_wrong,
                    drawn,
                    pixel_box=card.pixel_box,
                    quantization_levels=search.quantization_levels,
                    num_classes=max(2, model.output_shape[-1]),
                ),
            )
        )

    def _attack(
        self,
        model: keras.Model,
        images: tf.Tensor,
        goal: dict[str, tf.Tensor],
        batch_size: int,
        search: DistortionSearch,
    ) -> DistortionResults:
        """Attacks batch by batch; copies fill the last batch, so that all batches run the same compiled program."""
        num_images = images.shape[0]
        parts = []
        self.progress(0, num_images, f"compiling, then {min(batch_size, num_images)} at once")
        for begin in range(0, num_images, batch_size):
            rows = tf.minimum(tf.range(begin, begin + batch_size), num_images - 1)
            batch_goal = {name: tf.gather(classes, rows) for name, classes in goal.items()}
            parts.append(minimize_distortion(model, tf.gather(images, rows), **batch_goal, search=search))
            done = min(begin + batch_size, num_images)
            found = sum(int(tf.math.count_nonzero(part.succeeded)) for part in parts)
            self.progress(done, num_images, f"{found} found, {batch_size} at once")
        return tf.nest.map_structure(lambda *values: tf.concat(values, axis=0)[:num_images], *parts)


def _default_search(model: keras.Model, card: DatasetCard) -> DistortionSearch:
    """Returns the search that the library chooses for images of this size and a network of this cost."""
    architecture, _ = split_weights(model, card.image_shape)
    search = default_search(prod(card.image_shape), architecture.bytes_per_image)
    return dataclasses.replace(search, pixel_box=card.pixel_box)


def _search_record(results: DistortionResults, still_wrong: np.ndarray, drawn: Sample, **of_problem: Any) -> SearchRecord:
    succeeded = results.succeeded.numpy()
    found = results.distortion.numpy()[succeeded & drawn.correct]  # a misclassified image may have distortion 0
    return SearchRecord(
        **of_problem,
        clean_accuracy=drawn.accuracy,
        num_images=len(succeeded),
        num_succeeded=int(succeeded.sum()),
        num_succeeded_among_correct=len(found),
        num_surviving_rounding=int((succeeded & still_wrong).sum()),
        mean_distortion=float(found.mean()) if len(found) else nan,
        mean_num_evaluations=float(results.num_evaluations.numpy().mean()),
        num_images_by_status={status.sentence: int((results.status.numpy() == status).sum()) for status in SearchStatus},
    )
