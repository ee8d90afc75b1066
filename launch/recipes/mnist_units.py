"""Figures 1 to 4, and the first claim of the paper as a test: single units against random directions, on all of MNIST.

    python -m launch.reproduce --recipe=mnist_units --tfds_manual_dir=DIR --workdir=runs/mnist_units

A convolutional network, FC200-200-10 and AE400-10 are trained on the 60,000 training images; the 10,000 test images show what
their units respond to. Each layer is compared with 100 Haar-random bases; the controls are the same network with random
weights, and raw pixels. Two CPU cores, 25 minutes, most of them training. Expected: after the rectifier of `hidden1` of the
convolutional network, single units are far purer than random directions, and before it they are not; units of FC200-200-10
are a little more selective except for the output of its second layer, and those of AE400-10 are no purer than directions.
"""

from components.settings import LayerChoice
from components.studies.data_sources import Dataset
from components.studies.networks import Network
from components.studies.study import Study
from components.studies.training_curves import TrainingCurves
from components.studies.unit_comparison import UnitComparison
from intriguing.training.sparse_autoencoder import AutoencoderTraining
from intriguing.training.supervised import FullBatchTraining, MinibatchTraining
from intriguing.units import UnitSettings

RECIPE = Study(
    title="Units and directions, on MNIST",
    data=Dataset("mnist"),
    parts=(
        UnitComparison(
            layers=(
                (
                    Network(name="ConvNet", model="ConvNet", training=MinibatchTraining(num_epochs=4, batch_size=50)),
                    (
                        LayerChoice(layer="conv1", pooling="max"),
                        LayerChoice(layer="conv2", pooling="max"),
                        LayerChoice(layer="conv2", pooling="mean"),
                        LayerChoice(layer="hidden1"),
                        LayerChoice(layer="hidden1", before_activation=True),
                    ),
                ),
                (
                    Network(
                        name="FC200-200-10",
                        model="FC200-200-10",
                        training=MinibatchTraining(num_epochs=50, batch_size=50, learning_rate=5e-3),
                    ),
                    (
                        LayerChoice(layer="hidden1"),
                        LayerChoice(layer="hidden1", before_activation=True),
                        LayerChoice(layer="hidden2"),
                        LayerChoice(layer="hidden2", before_activation=True),
                    ),
                ),
                (
                    Network(
                        name="AE400-10",
                        model="AE400-10",
                        training=AutoencoderTraining(softmax=FullBatchTraining(max_iterations=1500, tolerance=1e-6)),
                    ),
                    (LayerChoice(layer="encoder"), LayerChoice(layer="encoder", before_activation=True)),
                ),
            ),
            settings=UnitSettings(),
        ),
        TrainingCurves(),
    ),
)
