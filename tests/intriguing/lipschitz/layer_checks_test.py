"""Errors for invalid layers and models name the layer and the weight."""

import keras
import numpy as np
import pytest

from intriguing.lipschitz import certified_distortion, check_bounded, lipschitz_bound, operator_norm
from intriguing.lipschitz.singular_values import proved_bound

layers = keras.layers


def spoiled(layer, shape, weight, value=np.nan):
    """Returns a built layer with one value of one weight replaced."""
    layer.build((None, *shape))
    (target,) = (one for one in layer.weights if one.name == weight)
    values = np.array(target)
    values.flat[0] = value
    target.assign(values)
    return layer


SPOILED = {
    "Dense, as in the issue": (lambda: layers.Dense(32), (784,), "kernel"),
    "Dense, small": (lambda: layers.Dense(4), (9,), "kernel"),
    "Dense, bias": (lambda: layers.Dense(4), (9,), "bias"),
    "Conv2D": (lambda: layers.Conv2D(2, 3), (6, 6, 1), "kernel"),
    "SeparableConv2D": (lambda: layers.SeparableConv2D(2, 3), (6, 6, 1), "pointwise_kernel"),
    "Conv2DTranspose": (lambda: layers.Conv2DTranspose(2, 3), (6, 6, 1), "kernel"),
    "EinsumDense": (lambda: layers.EinsumDense("ab,bc->ac", 3), (4,), "kernel"),
    "BatchNormalization": (lambda: layers.BatchNormalization(), (6, 6, 1), "moving_variance"),
    "BatchNormalization, mean": (lambda: layers.BatchNormalization(), (6, 6, 1), "moving_mean"),
    "Normalization": (lambda: layers.Normalization(), (4,), "mean"),
    "LayerNormalization": (lambda: layers.LayerNormalization(), (4,), "gamma"),
    "GroupNormalization": (lambda: layers.GroupNormalization(2), (4,), "beta"),
    "PReLU": (lambda: layers.PReLU(), (4,), "alpha"),
    "TimeDistributed": (lambda: layers.TimeDistributed(layers.Dense(2)), (3, 4), "kernel"),
}


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("name", SPOILED)
def test_nan_and_infinite_weights_are_named(name, value):
    make, shape, weight = SPOILED[name]
    layer = spoiled(make(), shape, weight, value)
    message = f"the layer '{layer.name}', a {type(layer).__name__}, has 1 NaN or infinite values among the .* of '{weight}'"
    if not isinstance(layer, layers.PReLU):
        with pytest.raises(ValueError, match=message):
            operator_norm(layer, shape)
    model = keras.Sequential([keras.Input(shape), layer, layers.Flatten(), layers.Dense(2)])
    for function in (check_bounded, lipschitz_bound):
        with pytest.raises(ValueError, match=message):
            function(model)
    with pytest.raises(ValueError, match=message):
        certified_distortion(model, np.zeros((1, *shape), np.float32), [0])


def test_nan_and_infinite_layer_arguments_are_named():
    for layer in (layers.Rescaling(np.nan), layers.Rescaling(1.0, offset=np.inf)):
        with pytest.raises(ValueError, match=r"a Rescaling, has 1 NaN or infinite values among the 1 of '(scale|offset)'"):
            operator_norm(layer, (3,))
    layer = layers.Normalization(mean=[0.0, np.nan], variance=[1.0, 1.0])
    layer.build((None, 2))
    with pytest.raises(ValueError, match="a Normalization, has 1 NaN or infinite values among the 2 of 'mean'"):
        operator_norm(layer, (2,))
    layer = spoiled(layers.BatchNormalization(), (3,), "moving_variance", -1.0)
    with pytest.raises(ValueError, match="divides by the root of -0.999, its smallest moving variance with epsilon 0.001"):
        operator_norm(layer, (3,))


def test_nan_in_the_last_layer_prevents_certification():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3, "relu"), spoiled(layers.Dense(3, name="last"), (3,), "bias")])
    with pytest.raises(ValueError, match="the layer 'last', a Dense, has 1 NaN or infinite values among the 3 of 'bias'"):
        certified_distortion(model, np.ones((2, 4), np.float32), [0, 1])


def test_overflowing_logits_prevent_certification():
    """The layers before a bounded rectifier are computed in single precision."""
    head = [layers.Dense(2, use_bias=False), layers.Dense(2, use_bias=False), layers.ReLU(max_value=3e38)]
    model = keras.Sequential([keras.Input((2,)), *head, layers.Dense(2)])
    model.set_weights([np.full((2, 2), 1e25), np.array([[1e25, -1e25], [-1e25, 1e25]]), np.eye(2), np.zeros(2)])
    with pytest.raises(ValueError, match="the logits of 1 of the 1 images are NaN or infinite.*the network overflows"):
        certified_distortion(model, np.full((1, 2), 100.0, np.float32), [0])


def test_non_finite_matrices_have_no_proved_bound():
    for wrong in (np.nan, np.inf, 1e300):
        with pytest.raises(ValueError, match="NaN, infinite or too large entries have no bound"):
            proved_bound(np.full((1, 2, 2), wrong), 0.0)


@pytest.mark.parametrize("input_shape", [(None, 9), (0, 9), (9.5,), ("9",), (-9,)])
def test_input_shape_with_a_batch_axis_raises(input_shape):
    layer = layers.Dense(4)
    layer.build((None, 9))
    with pytest.raises(ValueError, match="input_shape must be the shape of one input, without the batch axis"):
        operator_norm(layer, input_shape)
    with pytest.raises(ValueError, match=r"received \(None, 9\). Pass \(9,\)"):
        operator_norm(layer, (None, 9))


UNBUILT = [
    (layers.Dense(4), (9,)), (layers.Conv2D(2, 3), (6, 6, 1)), (layers.BatchNormalization(), (3,)), (layers.Normalization(), (3,)),
    (layers.LayerNormalization(), (3,)), (layers.TimeDistributed(layers.Dense(2)), (3, 4)),
]  # fmt: skip


@pytest.mark.parametrize(("layer", "shape"), UNBUILT, ids=lambda value: type(value).__name__)
def test_layer_that_is_not_built_raises(layer, shape):
    with pytest.raises(ValueError, match="is not built, so that it has no weights yet. Call layer.build"):
        operator_norm(layer, shape)
    assert not layer.built


def test_layer_built_for_another_shape_raises():
    layer = layers.Dense(4, name="hidden")
    layer.build((None, 9))
    with pytest.raises(ValueError, match=r"the layer 'hidden', a Dense, takes inputs with 9 values along axis -1.*\(8,\)"):
        operator_norm(layer, (8,))
    with pytest.raises(
        ValueError, match=r"a MaxPooling2D, takes inputs with 4 axes, the batch axis included; received .*\(9,\)"
    ):
        operator_norm(layers.MaxPooling2D(), (9,))
    with pytest.raises(ValueError, match=r"a Conv2D, cannot be built for input_shape=\(9,\)"):
        operator_norm(layers.Conv2D(2, 3), (9,))


class Subclassed(keras.Model):
    def call(self, inputs):
        return inputs


def test_objects_that_are_not_layers_raise():
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2)], name="mine")
    with pytest.raises(TypeError, match=r"received the model 'mine', a Sequential. Call lipschitz_bound\(model\)"):
        operator_norm(model, (3,))
    for wrong, described in ((len, "the function 'len'"), (lambda x: x, "the function '<lambda>'"), (3, "received 3")):
        with pytest.raises(TypeError, match=f"must be given a built Keras layer; .*{described}"):
            operator_norm(wrong, (3,))


@pytest.mark.parametrize("function", [lipschitz_bound, check_bounded, lambda model: certified_distortion(model, [[0.0]], [0])])
def test_objects_without_a_layer_graph_raise(function):
    for wrong in (len, lambda images: images, layers.Dense(3)):
        with pytest.raises(TypeError, match="the model must be a functional or sequential Keras model"):
            function(wrong)
    with pytest.raises(ValueError, match="the model 'mine' must be functional or sequential.*written as a functional one"):
        function(Subclassed(name="mine"))
    inputs = keras.Input((3,))
    model = keras.Model(inputs, Subclassed(name="within")(inputs))
    with pytest.raises(ValueError, match="the model 'within', a Subclassed, is subclassed or not built"):
        check_bounded(model)


def test_quantized_layer_has_no_bound():
    layer = layers.Dense(4)
    layer.build((None, 8))
    layer.quantize("int8")
    with pytest.raises(ValueError, match="is quantized to 'int8': it rounds its inputs, so that no bound holds"):
        operator_norm(layer, (8,))
