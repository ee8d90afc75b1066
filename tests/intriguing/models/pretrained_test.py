"""Pretrained weights give the logits of PyTorch, and invalid weight files are refused."""

import hashlib
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from intriguing.models import (
    ONE_WEIRD_TRICK_IN_TORCHVISION,
    SQUEEZENET_IN_TORCHVISION,
    alexnet,
    alexnet_one_weird_trick,
    load_arrays,
    load_state_dict,
    save_arrays,
    squeezenet,
    squeezenet_torchvision,
)

RTOL_LOGITS = (
    1e-4  # relative to the largest logit: float32 sums in another order; a wrongly transposed kernel gives errors of order one
)
PAGE = b"\n<!DOCTYPE html><html><body>Please log in.</body></html>"
SMALL = {"conv": "trunk.0", "logits": "trunk.3"}  # and their names in a state dict
SAME_NAMES = {layer: layer for layer in ONE_WEIRD_TRICK_IN_TORCHVISION}


def small_network(channels=4, num_classes=3, seed=0):
    """Returns a network of a grouped convolution on a grid that is not square, followed by a dense layer."""
    return keras.Sequential(
        [
            keras.Input((5, 4, 2)),
            keras.layers.Conv2D(channels, 3, groups=2, activation="relu", name="conv", bias_initializer="random_normal"),
            keras.layers.Flatten(name="features"),
            keras.layers.Dropout(0.5, name="drop"),
            keras.layers.Dense(num_classes, name="logits", bias_initializer="random_normal"),
        ],
        name="small",
    )


def colored_network(seed=0):
    initializer = keras.initializers.GlorotUniform(seed)
    layers = [keras.Input((4, 4, 3)), keras.layers.Conv2D(2, 3, kernel_initializer=initializer, name="conv1")]
    return keras.Sequential([*layers, keras.layers.GlobalAveragePooling2D(name="logits")], name="colored")


def arrays_of(model):
    return {f"{layer.name}/{weight.name}": np.asarray(weight) for layer in model.layers for weight in layer.weights}


def write_arrays(path, **changes):
    """Writes the arrays of the small network with replacements. None omits an array."""
    arrays = {**arrays_of(small_network()), **changes}
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return path


def digest_of(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


# --- plain arrays


def test_saved_arrays_are_loaded_and_the_digest_is_that_of_the_file(tmp_path):
    model, other = small_network(), small_network()
    save_arrays(model, tmp_path / "small.npz")
    load_arrays(other, tmp_path / "small.npz", sha256=digest_of(tmp_path / "small.npz").upper())
    for weight, same in zip(other.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, same)
    with np.load(tmp_path / "small.npz", allow_pickle=False) as file:
        assert sorted(file) == ["conv/bias", "conv/kernel", "logits/bias", "logits/kernel"]


def test_bgr_kernel_of_the_first_layer_is_reversed(tmp_path):
    model, other = colored_network(), colored_network(seed=1)
    save_arrays(model, tmp_path / "bgr.npz")
    load_arrays(other, tmp_path / "bgr.npz", channel_order="BGR")
    images = tf.random.stateless_uniform([2, 4, 4, 3], seed=[0, 0])
    np.testing.assert_allclose(other(images), model(images[..., ::-1]), rtol=1e-5, atol=1e-6)


def test_half_precision_arrays_become_float32(tmp_path):
    halves = {name: array.astype(np.float16) for name, array in arrays_of(small_network()).items()}
    model = small_network()
    load_arrays(model, write_arrays(tmp_path / "half.npz", **halves))
    assert model.get_layer("conv").kernel.dtype == "float32"
    np.testing.assert_array_equal(model.get_layer("conv").kernel, halves["conv/kernel"])


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (
            {"conv/bias": None},
            ValueError,
            "must hold the 4 weights of 'small' and no others; missing: conv/bias; superfluous: no",
        ),
        (
            {"conv2/bias": np.zeros(4)},
            ValueError,
            "missing: none; superfluous: conv2/bias. Load it into the network whose weights",
        ),
        (
            {"conv/kernel": np.zeros((3, 3, 2, 4))},
            ValueError,
            r"conv/kernel in '.*' must have the shape \(3, 3, 1, 4\) of 'conv' of 'small'; received \(3, 3, 2, 4\)\. Load",
        ),
        (
            {"conv/kernel": np.zeros(3), "logits/bias": np.zeros(9)},
            ValueError,
            r"received \(3,\), and 1 more disagree. Load it into the network whose weights it contains: another variant, image size",
        ),
        (
            {"conv/bias": np.zeros(4, np.uint8)},
            TypeError,
            "conv/bias in '.*' must be floating point; received uint8. Save the",
        ),
        ({"conv/bias": np.full(4, np.nan)}, ValueError, "conv/bias in '.*' must be finite; received NaN or infinite values."),
        ({"conv/bias": np.array([None])}, ValueError, "must be an .npz file of plain arrays; .*Object arrays cannot be loaded"),
    ],
)
def test_invalid_arrays_are_refused_and_do_not_modify_the_network(tmp_path, changes, error, message):
    model = small_network()
    before = model.get_weights()
    with pytest.raises(error, match=message):
        load_arrays(model, write_arrays(tmp_path / "small.npz", **changes))
    for weight, same in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, same)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (PAGE, "must be a file of weights; received a web page, perhaps one that asks to log in. Download the file itself."),
        (
            b"version https://git-lfs.github.com/spec/v1\n",
            "must be a file of weights; received a pointer of Git LFS. Download the",
        ),
        (b"", "must be an .npz file of plain arrays; its 0 bytes cannot be read as such"),
        (b"\x80\x02}q\x00.", "must be an .npz file of plain arrays; .* a file that requires code to be run is refused."),
    ],
)
def test_other_file_types_are_refused(tmp_path, content, message):
    (tmp_path / "small.npz").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        load_arrays(small_network(), tmp_path / "small.npz")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_truncated_array_file_is_refused(tmp_path, share):
    path = write_arrays(tmp_path / "small.npz")
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(ValueError, match=r"its \d+ bytes cannot be read as such .* Download it again if it is truncated"):
        load_arrays(small_network(), path)


def test_missing_weight_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file of weights .*. Download it, or correct the path."):
        load_arrays(small_network(), tmp_path / "absent.npz")


def test_digest_is_checked_before_weights_are_loaded(tmp_path, monkeypatch):
    path = write_arrays(tmp_path / "small.npz")
    monkeypatch.setattr(np, "load", lambda *arguments, **options: pytest.fail("it was loaded"))
    with pytest.raises(
        ValueError, match=r"must have the SHA-256 0{64}; received [0-9a-f]{64}, of \d+ bytes. It was not loaded."
    ):
        load_arrays(small_network(), path, sha256="0" * 64)


@pytest.mark.parametrize("sha256", ["d138235c", "z" * 64, ""])
def test_invalid_digest_is_refused(tmp_path, sha256):
    with pytest.raises(ValueError, match="sha256 must be 64 hexadecimal digits; received"):
        load_arrays(small_network(), write_arrays(tmp_path / "small.npz"), sha256=sha256)


def test_channel_order_requires_three_colors(tmp_path):
    path = write_arrays(tmp_path / "small.npz")
    with pytest.raises(
        ValueError, match=r"'BGR' requires a convolution of three colors as the first layer; 'conv/kernel' has the sh"
    ):
        load_arrays(small_network(), path, channel_order="BGR")
    with pytest.raises(ValueError, match="unknown channel order 'GBR'. Did you mean 'RGB'"):
        load_arrays(small_network(), path, channel_order="GBR")


def test_models_whose_layers_are_unknown_or_share_names_are_refused(tmp_path):
    class Subclassed(keras.Model):
        pass

    path = write_arrays(tmp_path / "small.npz")
    with pytest.raises(ValueError, match="must be built, and functional or sequential, so that its layers are known"):
        load_arrays(Subclassed(), path)
    with pytest.raises(
        ValueError,
        match="names of weights must be unique; 'outer' has two of 'small/kernel'. Pass a model without nested models.",
    ):
        load_arrays(keras.Sequential([keras.Input((5, 4, 2)), small_network()], name="outer"), path)


def test_each_alexnet_refuses_the_weights_of_the_other(tmp_path):
    krizhevsky, one_weird_trick = alexnet(num_classes=2, name="krizhevsky"), alexnet_one_weird_trick(num_classes=2, name="owt")
    for model, other, shapes in (
        (
            krizhevsky,
            one_weird_trick,
            r"\(11, 11, 3, 96\) of 'conv1' of 'krizhevsky'; received \(11, 11, 3, 64\), and 7 ",
        ),
        (
            one_weird_trick,
            krizhevsky,
            r"\(11, 11, 3, 64\) of 'conv1' of 'owt'; received \(11, 11, 3, 96\), and 7 more",
        ),
    ):
        path = tmp_path / "other.npz"
        save_arrays(other, path)
        with pytest.raises(ValueError, match=r"conv1/kernel in '.*' must have the shape " + shapes):
            load_arrays(model, path)
        path.unlink()  # 228 MB


# --- state dicts of PyTorch


def test_missing_pytorch_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)  # an import fails
    (tmp_path / "small.pth").write_bytes(b"PK\x03\x04")
    with pytest.raises(
        ModuleNotFoundError, match=r"must be read by PyTorch, which is not installed. Run `pip install intriguing\[pe"
    ):
        load_state_dict(small_network(), tmp_path / "small.pth", names=SMALL)


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch", reason="state dicts are read by PyTorch: pip install intriguing[peers]")


@pytest.fixture
def small_in_torch(torch):
    layers = [torch.nn.Conv2d(2, 4, 3, groups=2), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(4 * 3 * 2, 3)]
    return torch.nn.ModuleDict({"trunk": torch.nn.Sequential(*layers)})


def randomized(torch, module):
    """Gives every layer random weights that keep the scale of activations, and offsets of similar size."""
    torch.manual_seed(0)
    for parameter in module.parameters():
        if parameter.dim() > 1:
            torch.nn.init.kaiming_normal_(parameter)
        else:
            torch.nn.init.normal_(parameter, std=0.3)
    return module.eval()


def logits_in_torch(torch, module, images):
    with torch.no_grad():
        return np.asarray(module(torch.tensor(np.moveaxis(np.asarray(images), -1, 1).copy())))


NETWORKS = {
    # the Keras constructor, the PyTorch constructor and its arguments, the names, the image shape, and the order of the channels
    "Krizhevsky": (alexnet, "krizhevsky", (227, 5), SAME_NAMES, (227, 227, 3)),
    "Krizhevsky, small images": (alexnet, "krizhevsky", (99, 5), SAME_NAMES, (99, 99, 3)),
    "one weird trick": (alexnet_one_weird_trick, "OneWeirdTrick", (1000,), ONE_WEIRD_TRICK_IN_TORCHVISION, (224, 224, 3)),
    "SqueezeNet": (squeezenet, "SqueezeNet", (1000, 1), SQUEEZENET_IN_TORCHVISION, (227, 227, 3)),
    "SqueezeNet, odd windows": (squeezenet, "SqueezeNet", (7, 1), SQUEEZENET_IN_TORCHVISION, (98, 83, 3)),
    "SqueezeNet of torchvision": (squeezenet_torchvision, "SqueezeNet", (1000, 0), SQUEEZENET_IN_TORCHVISION, (224, 224, 3)),
}


@pytest.mark.parametrize("network", NETWORKS)
def test_logits_equal_those_of_pytorch_with_the_same_weights(torch, network, tmp_path):
    from tests.oracles import torch_networks

    constructor, theirs, arguments, names, image_shape = NETWORKS[network]
    module = randomized(torch, getattr(torch_networks, theirs)(*arguments))
    torch.save(module.state_dict(), tmp_path / "weights.pth")
    num_classes = arguments[-1] if theirs == "krizhevsky" else arguments[0]
    model = constructor(num_classes=num_classes, image_shape=image_shape)
    load_state_dict(model, tmp_path / "weights.pth", names=names, sha256=digest_of(tmp_path / "weights.pth"))
    (tmp_path / "weights.pth").unlink()  # up to 244 MB

    images = tf.random.stateless_uniform([2, *image_shape], seed=[0, 0])
    ours = np.asarray(model(images, training=False))
    expected = logits_in_torch(torch, module, model.get_layer("scaling")(images))
    assert np.ptp(expected) > 0
    np.testing.assert_allclose(ours, expected, rtol=0, atol=RTOL_LOGITS * np.abs(expected).max())


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("precision", ["float32", "float64", "bfloat16"])
def test_both_pytorch_formats_and_all_precisions_are_read(torch, small_in_torch, legacy, precision, tmp_path):
    module = small_in_torch.to(getattr(torch, precision))
    torch.save(module.state_dict(), tmp_path / "small.pth", _use_new_zipfile_serialization=not legacy)
    model = small_network()
    load_state_dict(model, tmp_path / "small.pth", names=SMALL)
    images = tf.random.stateless_uniform([2, 5, 4, 2], seed=[0, 0])
    expected = logits_in_torch(torch, module.float().trunk, images)
    np.testing.assert_allclose(model(images), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_kernels_of_every_rank_are_transposed(torch, rank, tmp_path):
    window, size = (2, 3, 4)[:rank], (4, 5, 6)[:rank]
    convolution = [keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D][rank - 1]
    model = keras.Sequential([keras.Input((*size, 2)), convolution(3, window, name="conv"), keras.layers.Flatten()])
    model.add(keras.layers.Dense(4, use_bias=False, name="logits"))
    places = int(np.prod([n - w + 1 for n, w in zip(size, window)]))
    theirs = getattr(torch.nn, f"Conv{rank}d")(2, 3, window), torch.nn.Flatten(), torch.nn.Linear(3 * places, 4, bias=False)
    module = torch.nn.Sequential(*theirs)
    torch.save(module.state_dict(), tmp_path / "small.pth")
    load_state_dict(model, tmp_path / "small.pth", names={"conv": "0", "logits": "2"})
    images = tf.random.stateless_uniform([2, *size, 2], seed=[0, 0])
    np.testing.assert_allclose(model(images), logits_in_torch(torch, module, images), rtol=1e-5, atol=1e-6)


def test_each_alexnet_refuses_the_state_dict_of_the_other(torch, tmp_path):
    from tests.oracles.torch_networks import OneWeirdTrick, krizhevsky

    path = tmp_path / "other.pth"
    torch.save(OneWeirdTrick(2).state_dict(), path)
    received = r"\(96, 3, 11, 11\) of 'conv1' of 'krizhevsky'; received \(64, 3, 11, 11\), and 7 more disagree. Load it"
    with pytest.raises(ValueError, match=r"features.0.weight in '.*' must have the shape " + received):
        load_state_dict(alexnet(num_classes=2, name="krizhevsky"), path, names=ONE_WEIRD_TRICK_IN_TORCHVISION)

    torch.save(krizhevsky(227, 2).state_dict(), path)
    model = alexnet_one_weird_trick(num_classes=2, name="owt")
    received = r"\(64, 3, 11, 11\) of 'conv1' of 'owt'; received \(96, 3, 11, 11\), and 7 more disagree. Load it into"
    with pytest.raises(ValueError, match=r"conv1.weight in '.*' must have the shape " + received):
        load_state_dict(model, path, names=SAME_NAMES)
    others = "missing: features.0.weight, .* and 12 more; superfluous: conv1.weight, .* and 12 more."
    with pytest.raises(ValueError, match="must hold the 16 weights of 'owt' and no others; " + others):
        load_state_dict(model, path, names=ONE_WEIRD_TRICK_IN_TORCHVISION)
    path.unlink()  # 228 MB


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_a_truncated_state_dict_is_refused(torch, small_in_torch, legacy, share, tmp_path):
    torch.save(small_in_torch.state_dict(), tmp_path / "small.pth", _use_new_zipfile_serialization=not legacy)
    content = (tmp_path / "small.pth").read_bytes()
    (tmp_path / "small.pth").write_bytes(content[: int(share * len(content))])
    with pytest.raises(
        ValueError, match=r"must be a PyTorch state dict; its \d+ bytes cannot be read as such .* if it is truncated"
    ):
        load_state_dict(small_network(), tmp_path / "small.pth", names=SMALL)


def test_files_that_are_not_the_expected_state_dict_are_refused(torch, small_in_torch, tmp_path):
    path = tmp_path / "small.pth"
    path.write_bytes(PAGE)
    with pytest.raises(ValueError, match="must be a file of weights; received a web page"):
        load_state_dict(small_network(), path, names=SMALL)
    torch.save({"epoch": 3, "state_dict": small_in_torch.state_dict()}, path)
    with pytest.raises(ValueError, match="received a mapping with the entries epoch, state_dict. Save `module.state_dict"):
        load_state_dict(small_network(), path, names=SMALL)
    with pytest.raises(
        ValueError, match=r"must have the SHA-256 0{64}; received [0-9a-f]{64}, of \d+ bytes. It was not loaded."
    ):
        load_state_dict(small_network(), path, names=SMALL, sha256="0" * 64)
    torch.save(torch.zeros(3), path)
    with pytest.raises(
        ValueError, match="must be a state dict, from names to tensors; received Tensor. Save `module.state_dict"
    ):
        load_state_dict(small_network(), path, names=SMALL)


class RunsCode:
    """Is pickled as a function call."""

    def __reduce__(self):
        return pytest.fail, ("code of the file was run",)


def test_code_in_a_state_dict_is_never_run(torch, tmp_path):
    torch.save({"trunk.0.weight": RunsCode()}, tmp_path / "small.pth")
    with pytest.raises(ValueError, match="a file that requires code to be run is refused"):
        load_state_dict(small_network(), tmp_path / "small.pth", names=SMALL)


def test_state_dict_names_must_match_the_layers():
    with pytest.raises(ValueError, match="names must be different for all layers; received trunk.0, trunk.0. Correct them."):
        load_state_dict(small_network(), "small.pth", names={"conv": "trunk.0", "logits": "trunk.0"})
    with pytest.raises(ValueError, match="each layer of 'small' with weights; missing: logits; unknown: fc6"):
        load_state_dict(small_network(), "small.pth", names={"conv": "trunk.0", "fc6": "trunk.3"})


def test_layers_without_a_pytorch_equivalent_are_refused():
    model = keras.Sequential([keras.Input((3,)), keras.layers.BatchNormalization(name="norm")])
    with pytest.raises(
        ValueError, match="can be loaded into convolutional and dense layers only; 'norm' is a BatchNormalization. Convert its"
    ):
        load_state_dict(model, "small.pth", names={"norm": "trunk.0"})
