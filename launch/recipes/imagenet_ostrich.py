"""Photographs that a network classifies as ostriches after a small change, with Figures 3 to 5 and Table 5.

    python -m launch.reproduce --recipe=imagenet_ostrich --photographs=FOLDER --weights=squeezenet_v1.0_imagenet.npz

SqueezeNet 1.0 with weights trained on ImageNet; 64 photographs of a folder `validation/<wnid>/*.jpg` of its 1000 classes, drawn
at random among those that it classifies correctly, all with the target class 9, n01518878, an ostrich. One attack searches all
images, another one images whose colors are bytes. The units of its last layers are compared with random directions by kinds of
animals, since there is one photograph of each class. The norms of its layers are compared with those of an AlexNet with random
weights.
"""

from components.settings import LayerChoice
from components.studies.data_sources import ImageFolder
from components.studies.lipschitz_bounds import LipschitzBounds
from components.studies.networks import AttackSettings, PretrainedNetwork
from components.studies.plan import Split
from components.studies.study import Study
from components.studies.targeted_photographs import TargetedPhotographs
from components.studies.unit_comparison import UnitComparison
from intriguing.attack import PHOTOGRAPH_SEARCH

_SQUEEZENET = PretrainedNetwork(model="SqueezeNet", weights_channel_order="BGR")
_PHOTOGRAPHS = Split("validation")
_KINDS = {
    "fish": ((0, 6), (389, 397)),
    "bird": ((7, 24), (80, 100), (127, 146)),
    "amphibian or reptile": ((25, 68),),
    "dog": ((151, 268),),
    "cat": ((281, 293),),
    "insect": ((300, 326),),
    "primate": ((365, 384),),
    "other animal": ((0, 397),),
    "no animal": ((398, 999),),
}

RECIPE = Study(
    title="One class for all photographs",
    data=ImageFolder(image_size=(227, 227), shorter_side=256, num_classes=1000),
    parts=(
        TargetedPhotographs(
            network=_SQUEEZENET,
            split=_PHOTOGRAPHS,
            attack=AttackSettings(num_images=64, batch_size=32, search=PHOTOGRAPH_SEARCH, target=9, only_correct=True),
        ),
        LipschitzBounds(networks=(_SQUEEZENET, PretrainedNetwork(model="AlexNet", random=True)), attack=None),
        UnitComparison(
            layers=(
                (
                    _SQUEEZENET,
                    (LayerChoice(layer="fire9", pooling="max"), LayerChoice(layer="conv_final", pooling="mean")),
                ),
            ),
            split=_PHOTOGRAPHS,
            controls=(),
            kinds=_KINDS,
        ),
    ),
)
