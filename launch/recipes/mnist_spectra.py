"""Table 5's form for the networks of MNIST, and a certificate beside every attack, on all of MNIST.

    python -m launch.reproduce --recipe=mnist_spectra --tfds_manual_dir=DIR --workdir=runs/mnist_spectra

The six networks of Table 1 and a convolutional one are trained on the 60,000 training images and attacked on 256 of them, by
the default search, which ends at the decision boundary; the paper's own ends farther out. Two CPU cores, under 50 minutes, most
of them training. Expected: no certificate above an attack; on the softmax networks certificates of nearly the attack's
distortion; 0.39 to 0.48 of it on the sigmoid networks, three times and more what the product of the norms alone can tell; on
the convolutional network next to nothing.
"""

import dataclasses

from components.pipeline import Network
from intriguing.attack import DistortionSearch
from intriguing.training.supervised import MinibatchTraining
from launch.recipes import mnist

RECIPE = dataclasses.replace(
    mnist.RECIPE,
    title="Certified and attack distortion on MNIST",
    networks=(
        *mnist.RECIPE.networks,
        Network(name="ConvNet", model="ConvNet", training=MinibatchTraining(num_epochs=4, batch_size=50)),
    ),
    networks_on_first=(),
    networks_on_second=(),
    search=DistortionSearch(),
    spectra=True,
)
