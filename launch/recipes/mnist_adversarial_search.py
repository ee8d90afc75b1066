"""The search behind `mnist_adversarial_training`: candidates for the settings of every arm, without a look at the test images.

    python -m launch.reproduce --recipe=mnist_adversarial_search --tfds_manual_dir=DIR --workdir=runs/mnist_adversarial_search

Trained on the first 50,000 training images of MNIST, and compared on the other 10,000 by their errors alone. The error of the
best candidate is chosen among many, and so too good: what it is worth is told by the test images of the other recipe.
"""

from components.pipeline import ArmStudy, Network, Study
from intriguing.training import AdversarialTraining, LayerPool, MinibatchTraining

_MINIBATCHES = MinibatchTraining(num_epochs=60, batch_size=50, learning_rate=5e-3)
_SHARES = {"images": (0.2, 0.4), "hidden layers": (0.0, 0.1)}


def _pools(of_images: float, of_hidden: float) -> tuple[LayerPool, ...]:
    """Returns pools of the images, and where their share is not zero, of both hidden layers."""
    layers = {"images": of_images, "hidden1": of_hidden, "hidden2": of_hidden}
    return tuple(LayerPool(layer=layer, share=share) for layer, share in layers.items() if share)


RECIPE = Study(
    title="The settings of training on adversarial examples, on MNIST",
    dataset="mnist",
    arms=ArmStudy(
        arms=(
            Network(name="weight decay", model="FC100-100-10", training=_MINIBATCHES),
            Network(name="dropout", model="FC100-100-10(dropout)", training=_MINIBATCHES),
            *(
                Network(
                    name=f"pools of images {of_images:g}, of hidden layers {of_hidden:g}",
                    model="FC100-100-10",
                    training=AdversarialTraining(minibatches=_MINIBATCHES, pools=_pools(of_images, of_hidden)),
                )
                for of_images in _SHARES["images"]
                for of_hidden in _SHARES["hidden layers"]
            ),
        ),
        trained_on="train[:50000]",
        tested_on="train[50000:]",
        num_seeds=1,
        robustness=False,
    ),
)
