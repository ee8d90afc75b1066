"""Claims about figures: they draw whatever an experiment can yield, without a warning, and say what is wrong otherwise."""

import io
import subprocess
import sys

import matplotlib.colors
import matplotlib.image
import numpy as np
import pytest
from matplotlib.figure import Figure

from intriguing.analysis.proportions import Proportion
from intriguing.reporting.figures import (
    adversarial_gallery,
    distortion_distributions,
    noise_panel,
    to_png,
    training_curves,
    transfer_heat_map,
)

TEST_DPI = 40  # enough to draw every element, fast


def _png_shape(figure):
    assert isinstance(figure, Figure)
    png = to_png(figure, dpi=TEST_DPI)
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    return matplotlib.image.imread(io.BytesIO(png)).shape[:2]


def _texts(figure):
    figure.canvas.draw()
    found = figure.findobj(lambda artist: hasattr(artist, "get_text"))
    return {artist.get_text() for artist in found}


def _images(num=3, size=8, channels=1):
    images = np.random.default_rng(0).uniform(size=(num, size, size, channels))
    return images, np.clip(images + 0.05, 0, 1), np.arange(num), np.arange(num) + 1


def _names(num):
    return [f"FC{index}" for index in range(num)]


def test_png_has_the_size_of_the_figure():
    figure = training_curves({"FC10": [1.0, 0.5]}, title="Loss")
    width, height = figure.get_size_inches()
    assert _png_shape(figure) == (int(height * TEST_DPI), int(width * TEST_DPI))


def test_the_same_figure_gives_the_same_bytes():
    assert len({to_png(training_curves({"FC10": [1.0, 0.5]}, title="Loss"), dpi=TEST_DPI) for _ in range(2)}) == 1


def test_leaves_no_global_state():
    code = "import sys, intriguing.reporting.figures; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(("num_rows", "num_columns"), [(1, 1), (8, 6), (20, 20), (1, 20)])
def test_heat_map_draws_any_number_of_models(num_rows, num_columns):
    rates = np.linspace(0, 1, num_rows * num_columns).reshape(num_rows, num_columns)
    assert min(_png_shape(transfer_heat_map(rates, _names(num_rows), _names(num_columns), title="Transfer"))) > TEST_DPI


def test_heat_map_shows_our_number_and_the_papers():
    figure = transfer_heat_map([[0.293, np.nan]], ["a"], ["b", "c"], title="T", published=[[0.289, np.nan]])
    assert {"29.3", "(28.9)", "\N{EN DASH}"} <= _texts(figure)


def test_heat_map_draws_rows_without_a_number():
    assert _png_shape(transfer_heat_map(np.full((2, 3), np.nan), _names(2), _names(3), title="T", published=np.ones((2, 3))))


def test_heat_map_text_contrasts_with_its_cell():
    figure = transfer_heat_map([[0.0, 0.3, 0.6, 1.0]], ["a"], _names(4), title="T")
    axes = figure.axes[0]
    for text, patch in zip(axes.texts, axes.patches, strict=True):
        light, dark = sorted((_luminance(text.get_color()), _luminance(patch.get_facecolor())), reverse=True)
        assert (light + 0.05) / (dark + 0.05) > 4.5  # WCAG AA


def _luminance(color):
    channels = np.asarray(matplotlib.colors.to_rgb(color))
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))


def test_heat_map_scale_falls_steadily_in_lightness():
    figure = transfer_heat_map(np.linspace(0, 1, 12)[None], ["a"], _names(12), title="T")
    lightness = [_luminance(patch.get_facecolor()) for patch in figure.axes[0].patches]
    assert np.all(np.diff(lightness) < 0)


def test_heat_map_names_a_wrong_shape():
    with pytest.raises(ValueError, match=r"rates must have one row and column per name, \(2, 2\), .* received \(2, 3\)"):
        transfer_heat_map(np.ones((2, 3)), _names(2), _names(2), title="T")


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("num", [1, 10, 13])
def test_gallery_draws_gray_and_color(num, channels):
    images, distorted, labels, answers = _images(num, channels=channels)
    assert _png_shape(adversarial_gallery(images, distorted, labels=labels, answers=answers, title="G", num_images=20))


def test_gallery_shows_no_more_than_asked():
    images, distorted, labels, answers = _images(9)
    figure = adversarial_gallery(images, distorted, labels=labels, answers=answers, title="G", num_images=4)
    assert "3 → 4" in _texts(figure) and "4 → 5" not in _texts(figure)


def test_gallery_tells_the_distortion_and_the_magnification():
    images = np.full((1, 4, 4, 3), 0.5)
    figure = adversarial_gallery(images, images + 0.05, labels=["bus"], answers=["ostrich"], title="G")
    assert {"0.050", "difference\n\N{MULTIPLICATION SIGN} 10", "bus", "bus → ostrich"} <= _texts(figure)


def test_gallery_scale_is_symmetric_and_common():
    images, distorted, labels, answers = _images(2)
    distorted[1] = images[1] - 0.3
    figure = adversarial_gallery(images, distorted, labels=labels, answers=answers, title="G")
    limits = {axes.images[0].get_clim() for axes in figure.axes if axes.images and axes.images[0].get_cmap().name == "RdBu_r"}
    (common,) = limits
    assert common == pytest.approx((-0.3, 0.3))


def test_gallery_draws_unchanged_images():
    images, _, labels, _ = _images(2)
    assert _png_shape(adversarial_gallery(images, images, labels=labels, answers=labels, title="G"))


def test_gallery_names_what_is_wrong():
    images, distorted, labels, answers = _images(2)
    with pytest.raises(ValueError, match="Add a channel axis"):
        adversarial_gallery(images[..., 0], distorted[..., 0], labels=labels, answers=answers, title="G")
    with pytest.raises(ValueError, match="equally many"):
        adversarial_gallery(images, distorted, labels=labels[:1], answers=answers, title="G")
    with pytest.raises(ValueError, match="at least one"):
        adversarial_gallery(images[:0], distorted[:0], labels=[], answers=[], title="G")


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("num", [1, 7, 40])
def test_noise_panel_draws_pairs(num, channels):
    images, _, labels, answers = _images(num, channels=channels)
    noisy = images + np.random.default_rng(1).normal(size=images.shape)
    assert _png_shape(noise_panel(images, noisy, labels=labels, answers=answers, title="N", accuracy=0.51))


@pytest.mark.parametrize(
    ("accuracy", "words"),
    [
        (0.51, "51.0 %"),
        (Proportion(51, 100), "51.0 % (95 % interval 41.3 to 60.6 %, n = 100)"),
        (Proportion(0, 0), "images: \N{EN DASH}"),
    ],
)
def test_noise_panel_tells_the_accuracy(accuracy, words):
    images, noisy, labels, answers = _images(2)
    figure = noise_panel(images, noisy, labels=labels, answers=answers, title="N", accuracy=accuracy)
    assert any(text.endswith(words) for text in _texts(figure))


@pytest.mark.parametrize("num", [1, 20])
def test_distributions_draw_any_number_of_models(num):
    values = np.random.default_rng(0).gamma(9, 0.01, size=(num, 30))
    distortions = dict(zip(_names(num), values, strict=True))
    assert _png_shape(distortion_distributions(distortions, title="D", published={"FC0": 0.06, "unknown": 0.1}))


def test_distributions_draw_models_that_were_never_fooled():
    figure = distortion_distributions({"a": [np.nan, np.nan], "b": [], "c": [0.1, np.nan]}, title="D")
    assert {"target not reached", "1 of 2"} <= _texts(figure)
    assert _png_shape(distortion_distributions({"a": [np.nan]}, title="D"))


def test_distributions_need_a_model():
    with pytest.raises(ValueError, match="at least one model"):
        distortion_distributions({}, title="D")


@pytest.mark.parametrize("num", [1, 20])
def test_curves_draw_any_number_of_models_in_distinct_styles(num):
    figure = training_curves({name: [2.0, 1.0, 0.5] for name in _names(num)}, title="C")
    styles = {(line.get_color(), str(line._dash_pattern)) for line in figure.axes[0].lines}
    assert _png_shape(figure) and len(styles) == num


@pytest.mark.parametrize("losses", [[], [0.5], [np.nan, np.nan], [0.0, -1.0], [1.0, np.nan, 0.0, np.inf, 0.1], [1.0] * 5])
def test_curves_draw_whatever_training_gave(losses):
    assert _png_shape(training_curves({"FC10": losses}, title="C"))


def test_curves_need_a_history():
    with pytest.raises(ValueError, match="at least one model"):
        training_curves({}, title="C")


def test_dollar_signs_are_no_mathematics():
    name = r"$\frac$"
    images, distorted, _, _ = _images(1)
    figures = [
        transfer_heat_map([[0.5]], [name], [name], title=name),
        adversarial_gallery(images, distorted, labels=[name], answers=["$x"], title=name),
        noise_panel(images, distorted, labels=[name], answers=["$x"], title=name, accuracy=1.0),
        distortion_distributions({name: [0.1, 0.2]}, title=name),
        training_curves({name: [1.0, 0.5]}, title=name),
    ]
    assert all(_png_shape(figure) for figure in figures)
