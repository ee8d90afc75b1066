"""Trains one network of the zoo on one subset, and on pools of adversarial examples of some of its layers.

    python -m launch.train_adversarially --model=FC100-100-10 --layers=images,hidden1,hidden2 --shares=0.2,0.1,0.1 \\
        --dataset=mnist_5k --workdir=runs/mine

Interrupted and started again, it goes on after the last round.
"""

from __future__ import annotations

import dataclasses

from absl import flags

from components.adversarial_trainer.component import AdversarialTrainer
from components.folder_names import folder_name
from components.runner import run
from components.settings import to_parameters
from components.studies.training_comparison import round_table
from intriguing.distribution.strategy import writes_files
from intriguing.models.layer_split import cut_at
from intriguing.models.networks import zoo
from intriguing.reporting import to_text, write_table
from intriguing.training import AdversarialTraining, LayerPool
from launch import accelerator_flags, data_flags, search_flags, training_flags

for module in (accelerator_flags, data_flags, search_flags, training_flags):
    flags.adopt_module_key_flags(module)
_LAYERS = flags.DEFINE_list("layers", ["images"], "Layers with a pool, separated by commas; images for a pool of images.")
_POOL_SIZE = flags.DEFINE_integer("pool_size", 2000, "Maximum number of examples of a pool.", lower_bound=1)
_REPLACED = flags.DEFINE_float("replaced", 0.5, "Share of a pool that is replaced in every round.")
_SHARES = flags.DEFINE_list(
    "shares", ["0.25"], "Share of a minibatch that is drawn from a pool: one number, or one for each layer."
)
_TO_DISTORTION = flags.DEFINE_list(
    "to_distortion", ["0"], "Distortion to which perturbations are scaled: one number, or one for each layer; 0 for the "
    "least distortion that changes a prediction.",
)  # fmt: skip
_ROUNDS_PER_EPOCH = flags.DEFINE_integer(
    "rounds_per_epoch", 10, "Number of times that pools are renewed in an epoch.", lower_bound=1
)
_TENSORBOARD_DIR = flags.DEFINE_string(
    "tensorboard_dir", "", "Where to write losses and distortions of every round for TensorBoard; nowhere if omitted."
)


def main() -> None:
    """Trains and saves the network, and prints its error on its training subset, and every round."""
    model, name, training = training_flags.model(), training_flags.name(), _training()
    _check_layers(model, training)
    workdir = accelerator_flags.workdir(default="runs/steps")
    subset = data_flags.subset_step(workdir)
    trainer = AdversarialTrainer(
        f"train_{folder_name(name)}", workdir, subset=subset, name=name, model=model, training=to_parameters(training),
        seed=flags.FLAGS.seed, log_dir=_TENSORBOARD_DIR.value,
    )  # fmt: skip
    run([subset, trainer])
    if writes_files():
        table = dataclasses.replace(round_table(trainer.output.record()), name=f"rounds_{folder_name(name)}")
        print(to_text(table))
        print("Written to", *write_table(table, workdir))
        training_flags.show(trainer.output)


def _training() -> AdversarialTraining:
    parts = zip(_LAYERS.value, _for_each_layer(_SHARES), _for_each_layer(_TO_DISTORTION), strict=True)
    pools = [
        LayerPool(layer=layer, size=_POOL_SIZE.value, replaced=_REPLACED.value, share=share, to_distortion=wanted or None)
        for layer, share, wanted in parts
    ]
    return AdversarialTraining(
        minibatches=training_flags.minibatches(), pools=tuple(pools), rounds_per_epoch=_ROUNDS_PER_EPOCH.value,
        search=search_flags.search(otherwise="training"),
    )  # fmt: skip


def _for_each_layer(flag: flags.FlagHolder) -> list[float]:
    num_layers = len(_LAYERS.value)
    try:
        numbers = [float(text) for text in flag.value]
    except ValueError:
        numbers = []
    if len(numbers) not in (1, num_layers):
        raise ValueError(
            f"--{flag.name} must be one number, or one for each of the {num_layers} layers; received {','.join(flag.value)!r}."
        )
    return numbers if len(numbers) == num_layers else numbers * num_layers


def _check_layers(model: str, training: AdversarialTraining) -> None:
    """Raises a `ValueError` for networks that have no adversarial training."""
    if model.startswith("AE"):
        raise ValueError(f"{model} learns its features without labels, so it cannot be trained on pools. Pass another --model.")
    network = zoo.build(model)
    for pool in training.pools:
        cut_at(network, pool.layer)


if __name__ == "__main__":
    accelerator_flags.run(main)
