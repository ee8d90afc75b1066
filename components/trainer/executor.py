"""The work of Trainer."""

from __future__ import annotations

from collections.abc import Callable

import keras

from components.artifacts import Subset
from components.contract import Artifacts, Executor, Parameters
from components.example_gen.executor import card_of
from components.settings import Training, training_from
from intriguing.analysis.predictions import predict
from intriguing.analysis.transfer import error_rate
from intriguing.data import DatasetCard, batches, load_examples, num_examples
from intriguing.models import zoo
from intriguing.training.sparse_autoencoder import AutoencoderTraining, fit_on_autoencoder
from intriguing.training.supervised import FullBatchTraining, MinibatchTraining, TrainingRecord, fit_full_batch, fit_minibatches


class TrainerExecutor(Executor):
    """Builds, trains and saves a network under the current strategy."""

    def Do(self, input_dict: Artifacts, output_dict: Artifacts, exec_properties: Parameters) -> None:
        """Writes a `TrainedModel`."""
        subset: Subset = input_dict["subset"][0]
        card, split = card_of(subset)
        seed, name = exec_properties["seed"], exec_properties["name"]
        model = zoo.build(exec_properties["model"], image_shape=card.image_shape, num_classes=card.num_classes, seed=seed)
        record = _fit(model, card, split, training_from(exec_properties["training"]), seed, self._report)
        examples = load_examples(card, split)
        errors = error_rate(predict(model, examples.images), examples.labels)
        output = output_dict["model"][0]
        model.save(output.uri / "model.keras")
        output.write_json(
            "training.json",
            {
                "name": name,
                "model": exec_properties["model"],
                "dataset": card.name,
                "subset": split,
                "seed": seed,
                "losses": record.losses,
                "converged": record.converged,
                "train_errors": list(errors),
            },
        )

    def _report(self, done: int, total: int, loss: float) -> None:
        self.progress(done, total, f"loss {loss:.4g}")


def _fit(
    model: keras.Model, card: DatasetCard, split: str, training: Training, seed: int, report: Callable[[int, int, float], None]
) -> TrainingRecord:
    if isinstance(training, FullBatchTraining):
        examples = load_examples(card, split)
        return fit_full_batch(model, examples.images, examples.labels, settings=training, report=report)
    minibatches = training if isinstance(training, MinibatchTraining) else training.features
    stream = batches(card, split, batch_size=minibatches.batch_size, shuffle_seed=seed)
    steps_per_epoch = num_examples(card, split) // minibatches.batch_size
    if isinstance(training, AutoencoderTraining):
        examples = load_examples(card, split)
        return fit_on_autoencoder(
            model, stream, examples.images, examples.labels,
            steps_per_epoch=steps_per_epoch, settings=training, seed=seed, report=report,
        )  # fmt: skip
    return fit_minibatches(model, stream, steps_per_epoch=steps_per_epoch, settings=training, report=report)
