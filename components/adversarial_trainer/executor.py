"""The work of AdversarialTrainer."""

from __future__ import annotations

import functools
from collections.abc import Callable

import tensorflow as tf

from components.adversarial_trainer.summaries import write_round
from components.attacker.summaries import check_tensorboard
from components.contract import Artifacts, Executor, Parameters
from components.example_gen.executor import card_of
from components.settings import training_from
from components.trainer.network import build_network, stream, write_network
from intriguing.distribution.strategy import writes_files
from intriguing.training import AdversarialTraining, Round, fit_adversarially


class AdversarialTrainerExecutor(Executor):
    """Builds, trains and saves a network under the current strategy; interrupted, it goes on after the last round."""

    def Do(self, input_dict: Artifacts, output_dict: Artifacts, exec_properties: Parameters) -> None:
        """Writes a `TrainedModel` whose record has every round."""
        training = training_from(exec_properties["training"])
        if not isinstance(training, AdversarialTraining):
            raise TypeError(f"an AdversarialTrainer must have pools; received a {type(training).__name__}. Use a Trainer.")
        log_dir = exec_properties["log_dir"]
        if log_dir:
            check_tensorboard()  # before the work, not after it
        card, split = card_of(input_dict["subset"][0])
        seed = exec_properties["seed"]
        model = build_network(exec_properties, card)
        batches, steps_per_epoch = stream(card, split, batch_size=training.minibatches.batch_size, seed=seed)

        record = fit_adversarially(
            model, batches, steps_per_epoch=steps_per_epoch, settings=training, seed=seed,
            checkpoint=self.tmp_dir / "checkpoint.npz", report=self.progress, on_round=_round_writer(log_dir),
        )  # fmt: skip
        write_network(
            output_dict["model"][0], model, exec_properties, card, split, losses=record.losses, converged=None,
            rounds=record.rounds,
        )  # fmt: skip


def _round_writer(log_dir: str) -> Callable[[Round], None]:
    """Returns a function that writes a round for TensorBoard; without a folder it does nothing, so TensorBoard is optional."""
    if not (log_dir and writes_files()):
        return lambda record: None
    return functools.partial(write_round, tf.summary.create_file_writer(log_dir))
