"""Trains one network of the zoo on one subset of a data set.

python -m launch.train --model=FC100-100-10 --dataset=mnist_5k --subset=train --workdir=runs/mine
"""

from __future__ import annotations

from absl import flags

from components.folder_names import folder_name
from components.runner import run
from components.settings import PlainTraining, to_parameters
from components.trainer.component import Trainer
from intriguing.distribution.strategy import writes_files
from intriguing.training.sparse_autoencoder import AutoencoderTraining
from intriguing.training.supervised import FullBatchTraining
from launch import accelerator_flags, data_flags, training_flags

for module in (accelerator_flags, data_flags, training_flags):
    flags.adopt_module_key_flags(module)
_FULL_BATCH = flags.DEFINE_bool(
    "full_batch", False, "Train by L-BFGS on the whole subset until convergence, instead of minibatches."
)
_MAX_ITERATIONS = flags.DEFINE_integer("max_iterations", 1000, "Maximum number of iterations of L-BFGS.", lower_bound=1)


def main() -> None:
    """Trains and saves the network, and prints its error on its training subset."""
    model, name = training_flags.model(), training_flags.name()
    workdir = accelerator_flags.workdir(default="runs/steps")
    subset = data_flags.subset_step(workdir)
    trainer = Trainer(
        f"train_{folder_name(name)}", workdir, subset=subset, name=name, model=model,
        training=to_parameters(_training(model)), seed=flags.FLAGS.seed,
    )  # fmt: skip
    run([subset, trainer])
    if writes_files():
        training_flags.show(trainer.output)


def _training(model: str) -> PlainTraining:
    full_batch = FullBatchTraining(max_iterations=_MAX_ITERATIONS.value)
    by_minibatches = not (_FULL_BATCH.value or model.startswith("AE"))
    penalty = training_flags.spectral_penalty()
    if penalty and not by_minibatches:
        raise ValueError(
            f"--spectral_penalty is for training by minibatches; received {penalty} with --full_batch or an AE network. "
            "Leave it out."
        )
    if _FULL_BATCH.value:
        return full_batch
    return AutoencoderTraining(softmax=full_batch) if model.startswith("AE") else training_flags.minibatches()


if __name__ == "__main__":
    accelerator_flags.run(main)
