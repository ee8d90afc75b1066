"""Trains one network of the zoo on one subset of a data set.

python -m launch.train --model=FC100-100-10 --dataset=mnist_5k --subset=train --workdir=runs/mine
"""

from __future__ import annotations

from pathlib import Path

from absl import flags

from components.pipeline import folder_name
from components.runner import run
from components.settings import Training, to_parameters
from components.trainer.component import Trainer
from intriguing.accelerators import writes_files
from intriguing.analysis.proportions import Proportion
from intriguing.models import zoo
from intriguing.names import check_name
from intriguing.training.sparse_autoencoder import AutoencoderTraining
from intriguing.training.supervised import FullBatchTraining, MinibatchTraining
from launch import accelerator_flags, data_flags

flags.adopt_module_key_flags(accelerator_flags)
flags.adopt_module_key_flags(data_flags)
_MODEL = flags.DEFINE_string("model", None, f"What to train: {', '.join(zoo.CONSTRUCTORS)}.", required=True)
_NAME = flags.DEFINE_string("name", None, "What to call it in tables, and its folder; the model's name if omitted.")
_FULL_BATCH = flags.DEFINE_bool("full_batch", False, "Train by L-BFGS on the whole set until convergence, not by minibatches.")
_MAX_ITERATIONS = flags.DEFINE_integer("max_iterations", 1000, "Of L-BFGS.", lower_bound=1)
_NUM_EPOCHS = flags.DEFINE_integer("num_epochs", 60, "Passes over the training set; AE networks have their own.", lower_bound=1)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 50, "Images of one step.", lower_bound=1)
_LEARNING_RATE = flags.DEFINE_float(
    "learning_rate", 5e-3, "Of Adam at the first step; falls to zero along a cosine.", lower_bound=0
)
_SPECTRAL_PENALTY = flags.DEFINE_float(
    "spectral_penalty", 0.0, "Weight of the squared operator norms of all kernels; by minibatches, not for AE networks.",
    lower_bound=0,
)  # fmt: skip


def main() -> None:
    """Trains and saves the network, and prints its error on what it was trained on."""
    check_name(_MODEL.value, zoo.CONSTRUCTORS, "model")
    name, workdir = _NAME.value or _MODEL.value, accelerator_flags.workdir(default="runs/steps")
    subset = data_flags.subset_step(workdir)
    trainer = Trainer(
        f"train_{folder_name(name)}", workdir, subset=subset, name=name, model=_MODEL.value,
        training=to_parameters(_training()), seed=flags.FLAGS.seed,
    )  # fmt: skip
    run([subset, trainer])
    if writes_files():
        _show(trainer.output.uri, Proportion(*trainer.output.training()["train_errors"]))


def _training() -> Training:
    full_batch = FullBatchTraining(max_iterations=_MAX_ITERATIONS.value)
    by_minibatches = not (_FULL_BATCH.value or _MODEL.value.startswith("AE"))
    if _SPECTRAL_PENALTY.value and not by_minibatches:
        raise ValueError(
            f"--spectral_penalty is for training by minibatches; received {_SPECTRAL_PENALTY.value} with --full_batch or an AE "
            "network. Leave it out."
        )
    if _FULL_BATCH.value:
        return full_batch
    if _MODEL.value.startswith("AE"):
        return AutoencoderTraining(softmax=full_batch)
    return MinibatchTraining(
        num_epochs=_NUM_EPOCHS.value, batch_size=_BATCH_SIZE.value, learning_rate=_LEARNING_RATE.value,
        spectral_penalty=_SPECTRAL_PENALTY.value,
    )  # fmt: skip


def _show(folder: Path, errors: Proportion) -> None:
    print(f"Error on its training subset: {100 * errors.rate:.2f} % of {errors.num_trials}. Trained model: {folder}")


if __name__ == "__main__":
    accelerator_flags.run(main)
