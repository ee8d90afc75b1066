"""The flags of the scripts that train a network of the zoo by minibatches."""

from __future__ import annotations

from absl import flags

from components.artifacts import TrainedModel
from intriguing.models.networks import zoo
from intriguing.names import check_name
from intriguing.training import MinibatchTraining

_MODEL = flags.DEFINE_string("model", None, f"Network to train: {', '.join(zoo.CONSTRUCTORS)}.", required=True)
_NAME = flags.DEFINE_string("name", None, "Name in tables and folders; that of the model if omitted.")
_NUM_EPOCHS = flags.DEFINE_integer("num_epochs", 60, "Passes over the training set; AE networks have their own.", lower_bound=1)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 50, "Number of images of one step.", lower_bound=1)
_LEARNING_RATE = flags.DEFINE_float(
    "learning_rate", 5e-3, "Largest learning rate of Adam, which decays along a cosine.", lower_bound=0
)
_WARMUP = flags.DEFINE_float(
    "warmup", 0.0, "Share of all steps over which the learning rate increases from zero.", lower_bound=0, upper_bound=1
)
_LAST_RATE = flags.DEFINE_float("last_rate", 0.0, "Final learning rate, as a share of the largest.", lower_bound=0)
_AVERAGING = flags.DEFINE_float(
    "averaging",
    0.0,
    "Decay of an exponential moving average of the weights, which is then the network; 0 for none.",
    lower_bound=0,
)
_SPECTRAL_PENALTY = flags.DEFINE_float(
    "spectral_penalty", 0.0, "Weight of the squared operator norms of all kernels; for minibatches, not for AE networks.",
    lower_bound=0,
)  # fmt: skip


def model() -> str:
    """Returns the zoo name; the error for an unknown name offers the nearest known one."""
    try:
        check_name(_MODEL.value, zoo.CONSTRUCTORS, "model")
    except ValueError as error:
        raise ValueError(
            f"{error} This script trains networks of the zoo. Train a network of your own with Keras, save it with "
            "model.save('mine.keras'), and attack it with python -m launch.attack --model=mine.keras."
        ) from None
    return _MODEL.value


def name() -> str:
    """Returns the name of the network."""
    return _NAME.value or _MODEL.value


def spectral_penalty() -> float:
    """Returns the weight of the squared operator norms."""
    return _SPECTRAL_PENALTY.value


def minibatches() -> MinibatchTraining:
    """Returns the training by minibatches."""
    return MinibatchTraining(
        num_epochs=_NUM_EPOCHS.value, batch_size=_BATCH_SIZE.value, learning_rate=_LEARNING_RATE.value, warmup=_WARMUP.value,
        last_rate=_LAST_RATE.value, averaging=_AVERAGING.value, spectral_penalty=_SPECTRAL_PENALTY.value,
    )  # fmt: skip


def show(trained: TrainedModel) -> None:
    """Prints the error on the training subset, and the path of the network."""
    errors = trained.record().train_errors
    if errors is not None:
        print(f"Error on its training subset: {100 * errors.rate:.2f} % of {errors.num_trials}. Trained model: {trained.uri}")
