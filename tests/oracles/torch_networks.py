"""Three networks for photographs in PyTorch, written from their articles. The last two have the names of torchvision's state dicts.

They take preprocessed colors, channels first, and return logits.
"""

from collections import OrderedDict

import torch
from torch import nn


def krizhevsky(size: int, num_classes: int) -> nn.Module:
    """Returns AlexNet with groups and normalization for square images. Modules have the names of the Keras layers."""
    places = (((size - 11) // 4 + 1 - 3) // 2 + 1 - 3) // 2 + 1
    places = (places - 3) // 2 + 1

    def normalization() -> nn.Module:
        return nn.LocalResponseNorm(5, alpha=5 * 1e-4, beta=0.75, k=2.0)  # PyTorch divides alpha by the channels

    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(3, 96, 11, stride=4), relu1=nn.ReLU(), norm1=normalization(), pool1=nn.MaxPool2d(3, 2),
            conv2=nn.Conv2d(96, 256, 5, padding=2, groups=2), relu2=nn.ReLU(), norm2=normalization(), pool2=nn.MaxPool2d(3, 2),
            conv3=nn.Conv2d(256, 384, 3, padding=1), relu3=nn.ReLU(),
            conv4=nn.Conv2d(384, 384, 3, padding=1, groups=2), relu4=nn.ReLU(),
            conv5=nn.Conv2d(384, 256, 3, padding=1, groups=2), relu5=nn.ReLU(), pool5=nn.MaxPool2d(3, 2),
            flatten=nn.Flatten(), fc6=nn.Linear(256 * places**2, 4096), relu6=nn.ReLU(), drop6=nn.Dropout(),
            fc7=nn.Linear(4096, 4096), relu7=nn.ReLU(), drop7=nn.Dropout(), logits=nn.Linear(4096, num_classes),
        )
    )  # fmt: skip


class OneWeirdTrick(nn.Module):
    """AlexNet without groups and normalization."""

    def __init__(self, num_classes: int):
        super().__init__()
        convolutions = [nn.Conv2d(3, 64, 11, stride=4, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)]
        convolutions += [nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)]
        for inputs, outputs in ((192, 384), (384, 256), (256, 256)):
            convolutions += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU()]
        self.features = nn.Sequential(*convolutions, nn.MaxPool2d(3, 2))
        self.average = nn.AdaptiveAvgPool2d((6, 6))
        hidden = [nn.Dropout(), nn.Linear(256 * 6 * 6, 4096), nn.ReLU(), nn.Dropout(), nn.Linear(4096, 4096), nn.ReLU()]
        self.classifier = nn.Sequential(*hidden, nn.Linear(4096, num_classes))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.classifier(torch.flatten(self.average(self.features(images)), 1))


class _Fire(nn.Module):
    def __init__(self, inputs: int, squeezed: int):
        super().__init__()
        self.squeeze = nn.Conv2d(inputs, squeezed, 1)
        self.expand1x1 = nn.Conv2d(squeezed, 4 * squeezed, 1)
        self.expand3x3 = nn.Conv2d(squeezed, 4 * squeezed, 3, padding=1)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        maps = torch.relu(self.squeeze(maps))
        return torch.relu(torch.cat([self.expand1x1(maps), self.expand3x3(maps)], 1))


class SqueezeNet(nn.Module):
    """SqueezeNet 1.0. The release for Caffe pads its last convolution, and torchvision does not."""

    def __init__(self, num_classes: int, final_padding: int):
        super().__init__()

        def pooling() -> nn.Module:
            return nn.MaxPool2d(3, 2, ceil_mode=True)

        self.features = nn.Sequential(
            nn.Conv2d(3, 96, 7, stride=2), nn.ReLU(), pooling(), _Fire(96, 16), _Fire(128, 16), _Fire(128, 32), pooling(),
            _Fire(256, 32), _Fire(256, 48), _Fire(384, 48), _Fire(384, 64), pooling(), _Fire(512, 64),
        )  # fmt: skip
        last = nn.Conv2d(512, num_classes, 1, padding=final_padding)
        self.classifier = nn.Sequential(nn.Dropout(), last, nn.ReLU(), nn.AdaptiveAvgPool2d(1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.flatten(self.classifier(self.features(images)), 1)
