"""The study at full size: every row of Tables 1 to 4, and Figure 7, on the 60,000 training and 10,000 test images of MNIST.

    python -m launch.reproduce --recipe=mnist --tfds_manual_dir=DIR --workdir=runs/mnist

Two CPU cores, under 40 minutes. The softmax networks are trained by full-batch L-BFGS until convergence, as in the paper; the
sigmoid networks by minibatches, which ends at the same training error of zero in a tenth of the time. Expected on the test set:
7.4, 9.4 and 20 to 22 % for the three softmax networks, at most 1.9 % for FC100-100-10, 1.7 % for FC200-200-10 and 2.5 % for
AE400-10. The settings were chosen on the last 10,000 training images.
"""

from components.studies.data_sources import Dataset
from components.studies.networks import Network
from components.studies.study import Study
from components.studies.training_curves import TrainingCurves
from components.studies.transfer_between_halves import TransferBetweenHalves
from components.studies.transfer_between_models import TransferBetweenModels
from intriguing.training.sparse_autoencoder import AutoencoderTraining
from intriguing.training.supervised import FullBatchTraining, MinibatchTraining

_CONVEX = FullBatchTraining(max_iterations=1500, tolerance=1e-5)
_ON_HALVES = MinibatchTraining(num_epochs=50, batch_size=50, learning_rate=5e-3)

NETWORKS = (
    Network(name="FC10(1e-4)", model="FC10(1e-4)", training=_CONVEX),
    Network(name="FC10(1e-2)", model="FC10(1e-2)", training=_CONVEX),
    Network(name="FC10(1)", model="FC10(1)", training=_CONVEX),
    Network(
        name="FC100-100-10",
        model="FC100-100-10",
        training=MinibatchTraining(num_epochs=60, batch_size=50, learning_rate=5e-3),
    ),
    Network(
        name="FC200-200-10",
        model="FC200-200-10",
        training=MinibatchTraining(num_epochs=50, batch_size=50, learning_rate=5e-3),
    ),
    Network(
        name="AE400-10",
        model="AE400-10",
        training=AutoencoderTraining(softmax=FullBatchTraining(max_iterations=1500, tolerance=1e-6)),
    ),
)
_MODELS = TransferBetweenModels(networks=NETWORKS, illustrated=("FC10(1e-4)", "FC200-200-10"))
_HALVES = TransferBetweenHalves(
    on_first=(
        Network(name="FC100-100-10", model="FC100-100-10", training=_ON_HALVES),
        Network(
            name="FC123-456-10",
            model="FC123-456-10",
            training=MinibatchTraining(num_epochs=50, batch_size=50, learning_rate=3e-3),
        ),
    ),
    on_second=(Network(name="FC100-100-10'", model="FC100-100-10", training=_ON_HALVES),),
)

RECIPE = Study(
    title="Intriguing properties of neural networks, on MNIST",
    data=Dataset("mnist"),
    parts=(_MODELS, _HALVES, TrainingCurves()),
)
