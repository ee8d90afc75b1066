"""The search behind `mnist_adversarial_training`: candidates for the settings of every arm, without a look at the test images.

    python -m launch.reproduce --recipe=mnist_adversarial_search --tfds_manual_dir=DIR --workdir=runs/mnist_adversarial_search

Trained on the first 50,000 training images of MNIST, and compared on the other 10,000 by their errors alone. The error of the
best candidate is chosen among many, and so too good: what it is worth is told by the test images of the other recipe. Two CPU
cores, 90 minutes. Measured, one network each, with a standard error of 0.12 points: weight decay 1.70 %; pools of images 1.31
(half of a minibatch at 0.036) and 1.46 (two thirds); with hidden layers at their least distortion 1.57, at 0.02 beside images
at 0.05 1.43; pools renewed whole 1.77 and 1.65. Dropout was not run here.
"""

from components.pipeline import ArmStudy, Network, Study
from intriguing.training import AdversarialTraining, LayerPool, MinibatchTraining

MINIBATCHES = MinibatchTraining(num_epochs=40, batch_size=100, learning_rate=1e-2, warmup=0.02, last_rate=0.3, averaging=0.9995)


def with_pools(of_images: float, distortion: float, of_hidden: float = 0.0, at: float | None = None) -> AdversarialTraining:
    """Returns a training with a pool of images, and where their share is not zero, of both hidden layers.

    A fifth of every pool is renewed every second epoch.
    """
    pools = _pools(of_images, distortion, of_hidden, at, size=60_000, hidden_size=60_000, replaced=0.2)
    return AdversarialTraining(minibatches=MINIBATCHES, pools=pools)


def with_fresh_pools(
    epochs_per_round: int, of_images: float, distortion: float, of_hidden: float, at: float
) -> AdversarialTraining:
    """As `with_pools`, but smaller pools that are renewed whole."""
    pools = _pools(of_images, distortion, of_hidden, at, size=12_000, hidden_size=3000, replaced=1.0)
    return AdversarialTraining(minibatches=MINIBATCHES, pools=pools, epochs_per_round=epochs_per_round)


def _pools(
    of_images: float, distortion: float, of_hidden: float, at: float | None, *, size: int, hidden_size: int, replaced: float
) -> tuple[LayerPool, ...]:
    images = LayerPool(layer="images", share=of_images, to_distortion=distortion, size=size, replaced=replaced)
    hidden = tuple(
        LayerPool(layer=layer, share=of_hidden, to_distortion=at, size=hidden_size, replaced=replaced)
        for layer in ("hidden1", "hidden2")
        if of_hidden
    )
    return (images, *hidden)


_CANDIDATES = (
    with_pools(0.5, 0.036),
    with_pools(0.65, 0.036),
    with_pools(0.5, 0.036, 0.05),
    with_pools(0.5, 0.05, 0.05, 0.02),
    with_fresh_pools(1, 0.5, 0.05, 0.05, 0.01),
    with_fresh_pools(2, 0.5, 0.045, 0.03, 0.01),
)


def _name(candidate: AdversarialTraining) -> str:
    told = [f"{pool.layer} {pool.share:g} at {pool.to_distortion or 'least'}" for pool in candidate.pools]
    return f"{'fresh ' if candidate.pools[0].replaced == 1.0 else ''}pools {', '.join(told)}"


RECIPE = Study(
    title="The settings of training on adversarial examples, on MNIST",
    dataset="mnist",
    arms=ArmStudy(
        arms=(
            Network(name="weight decay", model="FC100-100-10", training=MINIBATCHES),
            Network(name="dropout", model="FC100-100-10(dropout)", training=MINIBATCHES),
            *(Network(name=_name(candidate), model="FC100-100-10", training=candidate) for candidate in _CANDIDATES),
        ),
        trained_on="train[:50000]",
        tested_on="train[50000:]",
        num_seeds=1,
        robustness=False,
    ),
)
