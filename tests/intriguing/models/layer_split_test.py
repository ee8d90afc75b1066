"""A network that is cut at a layer is the composition of its parts, ranges are valid, and invalid cuts raise."""

from math import inf

import keras
import numpy as np
import pytest

from intriguing.models.layer_split import IMAGES, cut_at
from intriguing.pixels import PixelBox

layers = keras.layers
RTOL_ROUNDING = 1e-5  # the same operations, compiled in two pieces
SHAPE = (6, 6, 2)
FREE = PixelBox(-inf, inf)


def sequential(*chain, shape=SHAPE):
    return keras.Sequential([keras.Input(shape), *chain])


def wide(model, number=64, seed=0):
    """Returns images with large values, so that activations cover their range."""
    return np.random.default_rng(seed).normal(size=(number, *model.inputs[0].shape[1:]), scale=20.0).astype(np.float32)


def convolutional():
    return sequential(
        layers.Conv2D(4, 3, activation="relu", name="conv"), layers.BatchNormalization(name="norm"),
        layers.MaxPooling2D(2, name="pool"), layers.Flatten(name="flat"), layers.Dropout(0.5, name="drop"),
        layers.Dense(5, activation="tanh", name="hidden"), layers.Dense(3, name="logits"),
    )  # fmt: skip


@pytest.mark.parametrize("layer_name", [IMAGES, "conv", "norm", "pool", "flat", "drop", "hidden"])
def test_composition_of_both_parts_is_the_model(layer_name):
    model = convolutional()
    images = wide(model, 5)
    cut = cut_at(model, layer_name)
    activations = cut.below(images, training=False)
    np.testing.assert_allclose(cut.above(activations, training=False), model(images, training=False), rtol=RTOL_ROUNDING)
    if layer_name != IMAGES:
        np.testing.assert_array_equal(activations, keras.Model(model.inputs[0], model.get_layer(layer_name).output)(images))


def test_cut_at_the_images_is_the_identity_and_keeps_their_bounds():
    model = convolutional()
    cut = cut_at(model, IMAGES, pixel_box=PixelBox(-3.0, 7.0))
    assert cut.above is model and cut.values == PixelBox(-3.0, 7.0)
    np.testing.assert_array_equal(cut.below(wide(model)), wide(model))


def test_parts_share_the_weights_of_the_model():
    model = convolutional()
    cut = cut_at(model, "hidden")
    parts = {id(variable) for part in (cut.below, cut.above) for variable in part.variables}
    assert parts == {id(variable) for variable in model.variables}
    assert {id(variable) for variable in cut.above.variables} == {id(v) for v in model.get_layer("logits").variables}


def test_model_can_be_cut_repeatedly_at_other_layers():
    model = convolutional()
    images = wide(model, 5)
    for layer_name in ("hidden", "conv", "flat", "hidden"):
        cut = cut_at(model, layer_name)
        np.testing.assert_allclose(cut.above(cut.below(images)), model(images), rtol=RTOL_ROUNDING)


def test_upper_part_can_be_cut_again():
    model = convolutional()
    upper = cut_at(cut_at(model, "conv").above, "hidden")
    activations = cut_at(model, "conv").below(wide(model, 5))
    np.testing.assert_allclose(upper.above(upper.below(activations)), model(wide(model, 5)), rtol=RTOL_ROUNDING)
    assert upper.values == PixelBox(-1.0, 1.0)


def known_activations():
    skipped = {"glu"}  # halves the number of channels
    names = [name for name in dir(keras.activations) if callable(getattr(keras.activations, name))]
    return sorted(set(names) - skipped - {"get", "serialize", "deserialize"})


EXPECTED = {
    "sigmoid": PixelBox(0.0, 1.0), "hard_sigmoid": PixelBox(0.0, 1.0), "softmax": PixelBox(0.0, 1.0),
    "tanh": PixelBox(-1.0, 1.0), "softsign": PixelBox(-1.0, 1.0), "hard_tanh": PixelBox(-1.0, 1.0),
    "relu": PixelBox(0.0, inf), "relu6": PixelBox(0.0, 6.0), "softplus": PixelBox(0.0, inf), "exponential": PixelBox(0.0, inf),
}  # fmt: skip


@pytest.mark.parametrize("as_layer", [False, True], ids=["in a dense layer", "as a layer"])
def test_ranges_of_all_keras_activations_are_valid_and_tight(as_layer):
    assert len(known_activations()) > 20
    for name in known_activations():
        if name in ("threshold",):  # requires arguments
            continue
        chain = [layers.Dense(8), layers.Activation(name, name="cut")] if as_layer else [layers.Dense(8, name, name="cut")]
        cut = cut_at(sequential(*chain, layers.Dense(3), shape=(4,)), "cut")
        assert cut.values == EXPECTED.get(name, FREE), name
        values = np.concatenate([cut.below(scale * wide(cut.below, 200)) for scale in (0.1, 1.0)])
        assert np.nanmin(values) >= cut.values.lower and np.nanmax(values) <= cut.values.upper, name
        # Finite bounds must be close to the extreme values. Exponentials overflow in float32.
        for bound, end in ((cut.values.lower, np.nanmin(values)), (cut.values.upper, np.nanmax(values))):
            assert not np.isfinite(bound) or abs(bound - end) < 0.05, name


MOVERS = {
    "flatten": [layers.Flatten], "reshape": [lambda: layers.Reshape((-1, 2))], "permute": [lambda: layers.Permute((3, 1, 2))],
    "dropout": [lambda: layers.Dropout(0.5)], "spatial dropout": [lambda: layers.SpatialDropout2D(0.5)],
    "max": [lambda: layers.MaxPooling2D(3, 2)], "max same": [lambda: layers.MaxPooling2D(3, 2, padding="same")],
    "average": [lambda: layers.AveragePooling2D(3, 2)],
    "average same": [lambda: layers.AveragePooling2D(3, 2, padding="same")],
    "global max": [layers.GlobalMaxPooling2D], "global average": [layers.GlobalAveragePooling2D],
    "several": [lambda: layers.MaxPooling2D(2), lambda: layers.Dropout(0.1), layers.Flatten],
}  # fmt: skip


def ending_in(chain):
    *others, last = [make() for make in chain]
    last.name = "cut"
    return [*others, last]


@pytest.mark.parametrize("movers", MOVERS)
@pytest.mark.parametrize("shift", [-1.0, 1.0])
def test_range_is_kept_by_layers_that_move_drop_or_average_values(movers, shift):
    # All values are close to one end of the range, so that padding with zeros would be detected.
    conv = layers.Conv2D(2, 1, activation="tanh", bias_initializer=keras.initializers.Constant(30.0 * shift))
    model = sequential(conv, *ending_in(MOVERS[movers]), layers.Flatten(), layers.Dense(2))
    cut = cut_at(model, "cut")
    assert cut.values == PixelBox(-1.0, 1.0)
    values = cut.below(0.1 * wide(model))
    assert np.min(values) >= -1.0 and np.max(values) <= 1.0
    np.testing.assert_allclose(np.median(values), shift, atol=0.05)


@pytest.mark.parametrize("movers", MOVERS)
def test_range_before_all_activations_is_the_pixel_box(movers):
    box = PixelBox(2.0, 3.0)
    model = sequential(*ending_in(MOVERS[movers]), layers.Flatten(), layers.Dense(2))
    cut = cut_at(model, "cut", pixel_box=box)
    assert cut.values == box
    images = np.random.default_rng(0).uniform(2.0, 3.0, size=(20, *SHAPE)).astype(np.float32)
    values = cut.below(images)
    assert np.min(values) >= 2.0 - 1e-6 and np.max(values) <= 3.0 + 1e-6  # means of float32


@pytest.mark.parametrize(
    ("layer", "values"),
    [
        (layers.ReLU, PixelBox(0.0, inf)), (lambda **k: layers.ReLU(max_value=2.5, **k), PixelBox(0.0, 2.5)),
        (lambda **k: layers.ReLU(negative_slope=0.1, **k), FREE), (lambda **k: layers.ReLU(threshold=1.0, **k), FREE),
        (layers.LeakyReLU, FREE), (layers.PReLU, FREE), (layers.ELU, FREE), (layers.BatchNormalization, FREE),
        (layers.LayerNormalization, FREE), (lambda **k: layers.Dense(3, **k), FREE),
        (lambda **k: layers.Dense(3, activation=lambda x: keras.ops.relu(x) - 1.0, **k), FREE),
        (lambda **k: layers.Rescaling(5.0, **k), FREE), (lambda **k: layers.AlphaDropout(0.1, **k), FREE),
    ],
)  # fmt: skip
def test_other_layers_have_their_own_range_or_none(layer, values):
    model = sequential(layers.Dense(4, activation="sigmoid"), layer(name="cut"), layers.Dense(2), shape=(4,))
    cut = cut_at(model, "cut")
    assert cut.values == values
    activations = cut.below(wide(model))
    assert np.min(activations) >= values.lower and np.max(activations) <= values.upper


class Residual(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.activation = keras.activations.relu

    def call(self, inputs):
        return inputs - self.activation(inputs)


def test_activation_attribute_of_a_custom_layer_gives_no_range():
    cut = cut_at(sequential(Residual(name="cut"), layers.Dense(2), shape=(4,)), "cut")
    assert cut.values == FREE


def test_gated_layer_has_no_known_range():
    gate = layers.GRU(3, activation="softplus", recurrent_activation="linear", name="cut")
    assert cut_at(sequential(gate, layers.Dense(2), shape=(5, 2)), "cut").values == FREE


def test_outputs_of_a_nested_model_have_the_range_of_its_last_layer():
    inner = keras.Sequential([keras.Input((4,)), layers.Dense(3, activation="sigmoid")], name="inner")
    model = sequential(inner, layers.Dense(2), shape=(4,))
    cut = cut_at(model, "inner")
    assert cut.values == PixelBox(0.0, 1.0)
    np.testing.assert_allclose(cut.above(cut.below(wide(model))), model(wide(model)), rtol=RTOL_ROUNDING)


def test_layer_shared_with_another_model_is_cut_in_this_model():
    hidden = layers.Dense(4, activation="sigmoid", name="hidden")
    sequential(hidden, layers.Dense(3), shape=(4,))
    model = sequential(layers.Rescaling(0.1), hidden, layers.Dropout(0.1, name="drop"), layers.Dense(2), shape=(4,))
    for layer_name in ("hidden", "drop"):
        cut = cut_at(model, layer_name)
        np.testing.assert_allclose(cut.above(cut.below(wide(model))), model(wide(model)), rtol=RTOL_ROUNDING)
        assert cut.values == PixelBox(0.0, 1.0)


def functional(connect, num_inputs=1):
    inputs = [keras.Input((4,), name=f"input{index}") for index in range(num_inputs)]
    return keras.Model(inputs if num_inputs > 1 else inputs[0], connect(*inputs), name="wired")


def around(images):
    hidden = layers.Dense(4, activation="tanh", name="hidden")(images)
    return layers.Dense(2)(layers.Add()([hidden, images]))


def twice(images):
    layer = layers.Dense(4, activation="tanh", name="hidden")
    return layers.Dense(2)(layer(layer(images)))


def two_outputs(images):
    hidden = layers.Dense(4, name="hidden")(images)
    return [layers.Dense(2)(hidden), layers.Dense(3)(hidden)]


def two_inputs(first, second):
    return layers.Dense(2, name="hidden")(layers.Concatenate()([first, second]))


def states(images):
    outputs, _, cell = layers.LSTM(3, return_state=True, name="hidden")(layers.Reshape((2, 2))(images))
    return layers.Dense(2)(layers.Concatenate()([outputs, cell]))


@pytest.mark.parametrize(
    ("connect", "num_inputs", "message"),
    [
        (around, 1, "the model 'wired' cannot be cut at 'hidden': another path leads around that layer to the outputs."),
        (
            twice,
            1,
            "cannot be cut at 'hidden': the layer 'hidden' returns 2 tensors; expected one. Name a layer that is used once",
        ),
        (states, 1, "cannot be cut at 'hidden': the layer 'hidden' returns 3 tensors; expected one."),
        (two_outputs, 1, "the model 'wired' must have one input and one output; received 1 and 2."),
        (two_inputs, 2, "the model 'wired' must have one input and one output; received 2 and 1."),
    ],
    ids=["around", "twice", "states", "two outputs", "two inputs"],
)
def test_invalid_cuts_raise(connect, num_inputs, message):
    with pytest.raises(ValueError, match=message):
        cut_at(functional(connect, num_inputs), "hidden")


def test_branches_that_merge_before_the_layer_are_allowed():
    def meeting(images):
        joined = layers.Add()([layers.Dense(4, activation="tanh")(images), images])
        return layers.Dense(2)(layers.Activation("sigmoid", name="hidden")(joined))

    model = functional(meeting)
    cut = cut_at(model, "hidden")
    np.testing.assert_allclose(cut.above(cut.below(wide(model))), model(wide(model)), rtol=RTOL_ROUNDING)
    assert cut.values == PixelBox(0.0, 1.0)


def test_unknown_layer_error_lists_layers_and_images():
    with pytest.raises(ValueError, match="unknown layer 'hiden'. Did you mean 'hidden'\\? Known: images, conv, norm"):
        cut_at(convolutional(), "hiden")


def test_cut_at_the_last_layer_is_refused():
    with pytest.raises(ValueError, match="'logits' is the last layer of the model '.*'. Name a layer below it."):
        cut_at(convolutional(), "logits")


class Subclassed(keras.Model):
    def call(self, images):
        return images


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            Subclassed(name="mine"),
            "the model 'mine' must be functional or Sequential, so that its graph is known; received a subclassed model. Pass a functional",
        ),
        (
            keras.Sequential([layers.Dense(2)], name="mine"),
            "the model 'mine' must be built, .* Begin it with a keras.Input, or call",
        ),
    ],
)
def test_subclassed_or_unbuilt_model_cannot_be_cut(model, message):
    with pytest.raises(ValueError, match=message):
        cut_at(model, "hidden")


def backbone():
    return keras.Sequential(
        [
            keras.Input(SHAPE), layers.Conv2D(3, 3, activation="sigmoid", name="conv1"), layers.MaxPooling2D(2, name="pool1"),
            layers.BatchNormalization(name="norm"), layers.Conv2D(4, 2, activation="relu", name="conv2"),
        ],
        name="backbone",
    )  # fmt: skip


def transferred():
    """Returns a model as in the Keras guide to transfer learning: a frozen network in inference mode, called as a layer."""
    inputs = keras.Input(SHAPE)
    maps = backbone()(layers.Rescaling(0.1)(inputs), training=False)
    head = keras.Sequential([layers.Dense(6, activation="tanh", name="hidden"), layers.Dense(3, name="logits")], name="head")
    return keras.Model(inputs, head(layers.GlobalAveragePooling2D(name="pool")(maps)), name="transferred")


@pytest.mark.parametrize(
    ("layer_name", "values"),
    [
        ("backbone/conv1", PixelBox(0.0, 1.0)), ("pool1", PixelBox(0.0, 1.0)), ("backbone/norm", FREE),
        ("backbone/conv2", PixelBox(0.0, inf)), ("backbone", PixelBox(0.0, inf)), ("pool", PixelBox(0.0, inf)),
        ("head/hidden", PixelBox(-1.0, 1.0)),
    ],
)  # fmt: skip
def test_nested_models_are_cut_at_their_layers(layer_name, values):
    model = transferred()
    rng = np.random.default_rng(0)
    model.set_weights([rng.uniform(0.2, 1.0, weight.shape) for weight in model.get_weights()])
    cut = cut_at(model, layer_name)
    assert cut.values == values
    for training in (False, True):  # the frozen part keeps its statistics
        outputs = cut.above(cut.below(wide(model), training=training), training=training)
        np.testing.assert_allclose(outputs, model(wide(model), training=training), rtol=RTOL_ROUNDING, atol=1e-6)
    parts = {id(variable) for part in (cut.below, cut.above) for variable in part.variables}
    assert parts == {id(variable) for variable in model.variables}


def test_upper_part_of_a_nested_cut_can_be_cut_again():
    model = transferred()
    upper = cut_at(cut_at(model, "backbone/conv1").above, "hidden")
    activations = cut_at(model, "backbone/conv1").below(wide(model, 5))
    np.testing.assert_allclose(upper.above(upper.below(activations)), model(wide(model, 5)), rtol=RTOL_ROUNDING)
    assert upper.values == PixelBox(-1.0, 1.0)


def test_pixel_box_is_passed_into_nested_models():
    inner = keras.Sequential([layers.MaxPooling2D(2, name="pool"), layers.Flatten(), layers.Dense(2)], name="inner")
    model = sequential(layers.Dropout(0.1), inner)
    assert cut_at(model, "inner/pool", pixel_box=PixelBox(-3.0, 7.0)).values == PixelBox(-3.0, 7.0)


def residual():
    inputs = keras.Input(SHAPE)
    hidden = layers.Conv2D(2, 3, padding="same", name="conv")(inputs)
    return keras.Model(inputs, layers.Add(name="sum")([inputs, hidden]), name="block")


def twin(images):
    inner = keras.Sequential([layers.Dense(4, name="hidden")], name="inner")
    return layers.Dense(2)(layers.Add()([inner(images), inner(layers.Rescaling(2.0)(images))]))


@pytest.mark.parametrize(
    ("model", "layer_name", "message"),
    [
        (
            lambda: sequential(residual(), layers.Flatten()),
            "block/conv",
            "at 'block/conv': another path leads around that layer",
        ),
        (lambda: functional(twin), "inner/hidden", "at 'inner/hidden': the layer 'inner' returns 2 tensors; expected one."),
        (transferred, "backbone/conv3", "unknown layer 'backbone/conv3'. Did you mean 'backbone/conv[12]'"),
        (
            lambda: sequential(backbone(), layers.Flatten()),
            "backbon/conv1",
            "Did you mean 'backbone/conv1'",
        ),
        (
            lambda: sequential(Subclassed(name="own"), layers.Dense(2)),
            "own/conv",
            "the layer 'own' must be a functional or Sequential model, .*received a Subclassed",
        ),
    ],
)
def test_invalid_cuts_in_nested_models_raise(model, layer_name, message):
    with pytest.raises(ValueError, match=message):
        cut_at(model(), layer_name)


def test_ambiguous_layer_name_of_nested_models_is_refused():
    parts = [keras.Sequential([layers.Dense(4, name="hidden"), layers.Dense(4)], name=name) for name in ("one", "other")]
    with pytest.raises(
        ValueError, match="several nested models have a layer 'hidden'.*its path: 'one/hidden', 'other/hidden'."
    ):
        cut_at(sequential(*parts, shape=(4,)), "hidden")
