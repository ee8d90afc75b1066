"""Galleries draw all possible results of an attack, and invalid input raises."""

import numpy as np
import pytest

from intriguing.reporting.plots.galleries import adversarial_gallery, noise_panel
from intriguing.statistics.proportions import Proportion
from tests.intriguing.reporting.plots.drawn import png_shape, texts


def _images(num=3, size=8, channels=1):
    images = np.random.default_rng(0).uniform(size=(num, size, size, channels))
    return images, np.clip(images + 0.05, 0, 1), np.arange(num), np.arange(num) + 1


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("num", [1, 10, 13])
def test_gallery_draws_gray_and_color(num, channels):
    images, distorted, labels, predictions = _images(num, channels=channels)
    assert png_shape(adversarial_gallery(images, distorted, labels=labels, predictions=predictions, title="G", num_images=20))


def test_gallery_shows_at_most_the_requested_number():
    images, distorted, labels, predictions = _images(9)
    figure = adversarial_gallery(images, distorted, labels=labels, predictions=predictions, title="G", num_images=4)
    assert "3 → 4" in texts(figure) and "4 → 5" not in texts(figure)


def test_gallery_shows_the_distortion_and_the_magnification():
    images = np.full((1, 4, 4, 3), 0.5)
    figure = adversarial_gallery(images, images + 0.05, labels=["bus"], predictions=["ostrich"], title="G")
    assert {"0.050", "difference\n\N{MULTIPLICATION SIGN} 10", "bus", "bus → ostrich"} <= texts(figure)


def test_gallery_scale_is_symmetric_and_common():
    images, distorted, labels, predictions = _images(2)
    distorted[1] = images[1] - 0.3
    figure = adversarial_gallery(images, distorted, labels=labels, predictions=predictions, title="G")
    limits = {axes.images[0].get_clim() for axes in figure.axes if axes.images and axes.images[0].get_cmap().name == "RdBu_r"}
    (common,) = limits
    assert common == pytest.approx((-0.3, 0.3))


def test_gallery_draws_unchanged_images():
    images, _, labels, _ = _images(2)
    assert png_shape(adversarial_gallery(images, images, labels=labels, predictions=labels, title="G"))


def test_gallery_errors_name_the_invalid_argument():
    images, distorted, labels, predictions = _images(2)
    with pytest.raises(ValueError, match="Add a channel axis"):
        adversarial_gallery(images[..., 0], distorted[..., 0], labels=labels, predictions=predictions, title="G")
    with pytest.raises(ValueError, match="one equal length"):
        adversarial_gallery(images, distorted, labels=labels[:1], predictions=predictions, title="G")
    with pytest.raises(ValueError, match="of at least 1"):
        adversarial_gallery(images[:0], distorted[:0], labels=[], predictions=[], title="G")


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("num", [1, 7, 40])
def test_noise_panel_draws_pairs(num, channels):
    images, _, labels, predictions = _images(num, channels=channels)
    noisy = images + np.random.default_rng(1).normal(size=images.shape)
    assert png_shape(noise_panel(images, noisy, labels=labels, predictions=predictions, title="N", accuracy=0.51))


@pytest.mark.parametrize(
    ("accuracy", "words"),
    [
        (0.51, "51.0 %"),
        (Proportion(51, 100), "51.0 % (95 % interval 41.3 to 60.6 %, n = 100)"),
        (Proportion(0, 0), "images: \N{EN DASH}"),
    ],
)
def test_noise_panel_shows_the_accuracy(accuracy, words):
    images, noisy, labels, predictions = _images(2)
    figure = noise_panel(images, noisy, labels=labels, predictions=predictions, title="N", accuracy=accuracy)
    assert any(text.endswith(words) for text in texts(figure))


def test_dollar_signs_are_drawn_literally():
    name = r"$\frac$"
    images, distorted, _, _ = _images(1)
    figures = [
        adversarial_gallery(images, distorted, labels=[name], predictions=["$x"], title=name),
        noise_panel(images, distorted, labels=[name], predictions=["$x"], title=name, accuracy=1.0),
    ]
    assert all(png_shape(figure) for figure in figures)
