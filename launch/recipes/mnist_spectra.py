"""Table 5 for networks of MNIST, and a certificate for every attacked image, on all of MNIST.

    python -m launch.reproduce --recipe=mnist_spectra --tfds_manual_dir=DIR --workdir=runs/mnist_spectra

The six networks of Table 1 and a convolutional one are trained on the 60,000 training images and attacked on 256 of them by
the default search, which ends at the decision boundary; the method of the paper ends farther from the image. Two CPU cores,
under 50 minutes, most of them training. Expected: no certificate above an attack; on the softmax networks certificates of
nearly the attack's distortion; on the sigmoid networks 0.39 to 0.48 of it, three times and more what the product of the norms
alone certifies; on the convolutional network next to nothing.
"""

from components.studies.data_sources import Dataset
from components.studies.lipschitz_bounds import LipschitzBounds
from components.studies.networks import AttackSettings, Network
from components.studies.study import Study
from components.studies.training_curves import TrainingCurves
from components.studies.transfer_between_models import TransferBetweenModels
from intriguing.training.supervised import MinibatchTraining
from launch.recipes import mnist

_NETWORKS = (
    *mnist.NETWORKS,
    Network(name="ConvNet", model="ConvNet", training=MinibatchTraining(num_epochs=4, batch_size=50)),
)
_ATTACK = AttackSettings()

RECIPE = Study(
    title="Certified and attack distortion on MNIST",
    data=Dataset("mnist"),
    parts=(
        TransferBetweenModels(networks=_NETWORKS, attack=_ATTACK, illustrated=("FC10(1e-4)", "FC200-200-10")),
        LipschitzBounds(networks=_NETWORKS, attack=_ATTACK),
        TrainingCurves(),
    ),
)
