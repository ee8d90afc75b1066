"""The search behind `mnist_adversarial_training`: candidates for the settings of every arm, without a look at the test images.

    python -m launch.reproduce --recipe=mnist_adversarial_search --tfds_manual_dir=DIR --workdir=runs/mnist_adversarial_search

Trained on the first 50,000 training images of MNIST, and compared on the other 10,000 by their errors alone. The error of the
best candidate is chosen among many, and so too good: what it is worth is told by the test images of the other recipe.
"""

from components.pipeline import ArmStudy, Network, Study
from intriguing.training import AdversarialTraining, LayerPool, MinibatchTraining

MINIBATCHES = MinibatchTraining(num_epochs=40, batch_size=100, learning_rate=1e-2, warmup=0.02, last_rate=0.3, averaging=0.9995)
_SIZE, _REPLACED = 60_000, 0.2


def pools(of_images: float, distortion: float, of_hidden: float = 0.0, at: float | None = None) -> tuple[LayerPool, ...]:
    """Returns a pool of images, and where their share is not zero, of both hidden layers."""
    images = LayerPool(layer="images", share=of_images, to_distortion=distortion, size=_SIZE, replaced=_REPLACED)
    hidden = tuple(
        LayerPool(layer=layer, share=of_hidden, to_distortion=at, size=_SIZE, replaced=_REPLACED)
        for layer in ("hidden1", "hidden2")
        if of_hidden
    )
    return (images, *hidden)


_CANDIDATES = (
    pools(0.5, 0.036),
    pools(0.65, 0.036),
    pools(0.5, 0.045),
    pools(0.5, 0.036, 0.05),
    pools(0.5, 0.036, 0.1),
    pools(0.5, 0.036, 0.1, 0.03),
    pools(0.3, 0.036, 0.2),
)


def _name(candidate: tuple[LayerPool, ...]) -> str:
    return "pools " + ", ".join(
        f"{pool.layer} {pool.share:g} at {'least' if pool.to_distortion is None else pool.to_distortion}" for pool in candidate
    )


RECIPE = Study(
    title="The settings of training on adversarial examples, on MNIST",
    dataset="mnist",
    arms=ArmStudy(
        arms=(
            Network(name="weight decay", model="FC100-100-10", training=MINIBATCHES),
            Network(name="dropout", model="FC100-100-10(dropout)", training=MINIBATCHES),
            *(
                Network(
                    name=_name(candidate),
                    model="FC100-100-10",
                    training=AdversarialTraining(minibatches=MINIBATCHES, pools=candidate),
                )
                for candidate in _CANDIDATES
            ),
        ),
        trained_on="train[:50000]",
        tested_on="train[50000:]",
        num_seeds=1,
        robustness=False,
    ),
)
