"""The work of Attacker."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from components.attacker.summaries import check_tensorboard, write_summaries
from components.contract import Artifacts, Executor, Parameters
from components.example_gen.executor import card_of
from components.settings import search_from
from intriguing.accelerators import writes_files
from intriguing.attack import DistortionResults, DistortionSearch, SearchStatus, minimize_distortion
from intriguing.data import random_targets, sample_examples


class AttackerExecutor(Executor):
    """Samples images, draws random wrong targets, and searches for the nearest images of those classes."""

    def Do(self, input_dict: Artifacts, output_dict: Artifacts, exec_properties: Parameters) -> None:
        """Writes `DistortedImages`."""
        if exec_properties["log_dir"]:
            check_tensorboard()  # before the work, not after it
        trained, output = input_dict["model"][0], output_dict["distorted"][0]
        card, split = card_of(input_dict["subset"][0])
        seed = exec_properties["seed"]
        examples = sample_examples(card, split, num_images=exec_properties["num_images"], seed=seed)
        targets = random_targets(examples.labels, card.num_classes, seed=seed)
        goal = {"targets": targets} if exec_properties["targeted"] else {"labels": examples.labels}
        results = self._attack(
            trained.load(), examples.images, goal, exec_properties["batch_size"], search_from(exec_properties["search"])
        )
        if exec_properties["log_dir"] and writes_files():
            write_summaries(exec_properties["log_dir"], results, exec_properties["batch_size"])
        output.write_arrays(
            {
                "images": examples.images.numpy(),
                "labels": examples.labels.numpy(),
                "ids": examples.ids.numpy().astype(np.bytes_),
                "targets": targets.numpy() if exec_properties["targeted"] else np.full(len(examples.labels), -1, np.int32),
                **{name: value.numpy() for name, value in results._asdict().items()},
            }
        )
        output.write_json(
            "attack.json", {**_summary(results), "name": trained.training()["name"], "dataset": card.name, "subset": split}
        )

    def _attack(
        self, model: keras.Model, images: tf.Tensor, goal: dict[str, tf.Tensor], batch_size: int, search: DistortionSearch
    ) -> DistortionResults:
        """Attacks batch by batch; the last one is filled up, so that one compiled program serves all."""
        num_images = images.shape[0]
        parts = []
        for begin in range(0, num_images, batch_size):
            rows = tf.minimum(tf.range(begin, begin + batch_size), num_images - 1)
            batch_goal = {name: tf.gather(classes, rows) for name, classes in goal.items()}
            parts.append(minimize_distortion(model, tf.gather(images, rows), **batch_goal, search=search))
            done = min(begin + batch_size, num_images)
            found = sum(int(tf.math.count_nonzero(part.succeeded)) for part in parts)
            self.progress(done, num_images, f"{found} found")
        return tf.nest.map_structure(lambda *values: tf.concat(values, axis=0)[:num_images], *parts)


def _summary(results: DistortionResults) -> dict[str, Any]:
    succeeded = results.succeeded.numpy()
    found = results.distortion.numpy()[succeeded]
    return {
        "num_images": len(succeeded),
        "num_succeeded": int(succeeded.sum()),
        "mean_distortion": float(found.mean()) if len(found) else None,
        "mean_num_evaluations": float(results.num_evaluations.numpy().mean()),
        "num_images_by_status": {status.sentence: int((results.status.numpy() == status).sum()) for status in SearchStatus},
    }
