"""The work of Trainer."""

from __future__ import annotations

from collections.abc import Callable

import keras

from components.contract import Artifacts, Executor, Parameters
from components.example_gen.executor import card_of
from components.settings import PlainTraining, training_from
from components.trainer.network import build_network, stream, write_network
from intriguing.data import DatasetCard, load_examples
from intriguing.training.sparse_autoencoder import AutoencoderTraining, fit_on_autoencoder
from intriguing.training.supervised import FullBatchTraining, MinibatchTraining, TrainingRecord, fit_full_batch, fit_minibatches


class TrainerExecutor(Executor):
    """Builds, trains and saves a network under the current strategy."""

    def Do(self, input_dict: Artifacts, output_dict: Artifacts, exec_properties: Parameters) -> None:
        """Writes a `TrainedModel`."""
        training = training_from(exec_properties["training"])
        if not isinstance(training, PlainTraining):
            raise TypeError(f"a Trainer has no pools; received a {type(training).__name__}. Use an AdversarialTrainer.")
        card, split = card_of(input_dict["subset"][0])
        model = build_network(exec_properties, card)
        record = _fit(model, card, split, training, exec_properties["seed"], self._report)
        write_network(
            output_dict["model"][0], model, exec_properties, card, split, losses=record.losses, converged=record.converged
        )

    def _report(self, done: int, total: int, loss: float) -> None:
        self.progress(done, total, f"loss {loss:.4g}")


def _fit(
    model: keras.Model,
    card: DatasetCard,
    split: str,
    training: PlainTraining,
    seed: int,
    report: Callable[[int, int, float], None],
) -> TrainingRecord:
    if isinstance(training, FullBatchTraining):
        examples = load_examples(card, split)
        return fit_full_batch(model, examples.images, examples.labels, settings=training, report=report)
    minibatches = training if isinstance(training, MinibatchTraining) else training.features
    batches, steps_per_epoch = stream(card, split, batch_size=minibatches.batch_size, seed=seed)
    if isinstance(training, AutoencoderTraining):
        examples = load_examples(card, split)
        return fit_on_autoencoder(
            model, batches, examples.images, examples.labels,
            steps_per_epoch=steps_per_epoch, settings=training, seed=seed, report=report,
        )  # fmt: skip
    return fit_minibatches(model, batches, steps_per_epoch=steps_per_epoch, settings=training, report=report)
