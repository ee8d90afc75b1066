"""The picture that everyone remembers: photographs that become ostriches, with Figures 3 to 5 and Table 5.

    python -m launch.reproduce --recipe=imagenet_ostrich --photographs=FOLDER --weights=squeezenet_v1.0_imagenet.npz

SqueezeNet 1.0 with weights trained on ImageNet; 64 photographs of a folder `validation/<wnid>/*.jpg` of its 1000 classes, drawn
at random among those that it gets right, all driven to class 9, n01518878, an ostrich; once among all images, and once among
those whose colors are bytes. What its last layers respond to, told by kinds of animals: there is one photograph of each class.
And the norms of its layers beside those of an AlexNet with random weights.
"""

from components.photograph_pipeline import PhotographStudy
from components.settings import LayerChoice

RECIPE = PhotographStudy(
    title="One class for all photographs",
    model="SqueezeNet",
    weights_channel_order="BGR",
    subset="validation",
    shorter_side=256,
    target=9,
    layers=(LayerChoice(layer="fire9", pooling="max"), LayerChoice(layer="conv_final", pooling="mean")),
    kinds={
        "fish": ((0, 6), (389, 397)),
        "bird": ((7, 24), (80, 100), (127, 146)),
        "amphibian or reptile": ((25, 68),),
        "dog": ((151, 268),),
        "cat": ((281, 293),),
        "insect": ((300, 326),),
        "primate": ((365, 384),),
        "other animal": ((0, 397),),
        "no animal": ((398, 999),),
    },
    bounded=("AlexNet",),
)
