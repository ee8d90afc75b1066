"""Traces a classifier with TensorFlow, and determines the properties of the trace.

A trace records the computation of a classifier at the time of the call. Therefore, changes of Python state, such as a replaced
layer or activation function, always take effect.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import prod
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from intriguing.models.single_output import OF_PROBABILITY, logit_before, threshold_of

_LOWEST_PROBABILITY = 1e-37  # lower limit for probabilities, so that their logarithm is finite in float32
_NESTED_CALLS = ("PartitionedCall", "StatefulPartitionedCall")
_RANDOM = re.compile("Random|Rng|Multinomial|TruncatedNormal|StatefulStandardNormal|StatefulUniform")  # operation types
_FIXED_BATCH = 16  # batch size for a callable that requires a fixed batch size
_CAST_AWAY = ("Identity", "Cast", "Reshape", "StopGradient", "PreventGradient", "CheckNumerics")
_PYTHON_CALLS = ("PyFunc", "PyFuncStateless", "EagerPyFunc")
_DEFAULT_PRECISION, _PRECISIONS = 2.0**-24, {tf.float16: 2.0**-11, tf.bfloat16: 2.0**-8}


class Trace(NamedTuple):
    """One trace of a classifier."""

    function: Any  # a ConcreteFunction: images [batch, ...] -> scores float32 [batch, classes]
    batch_size: int | None  # number of images in each call of the function; None for any number
    num_outputs: int  # of the classifier; 1 for two classes
    cuts: bool  # whether a final softmax, sigmoid or other saturating function was removed
    threshold: float | None  # for one output: class 1 is predicted above it; None if the operations do not determine it
    rounding: float  # unit roundoff of the lowest precision that the classifier computes in
    operations: frozenset[str]  # the types of all operations
    draws_random_numbers: bool  # whether the scores depend on an operation that may draw random numbers
    bytes_per_image: int

    @property
    def convolves(self) -> bool:
        """True if the trace contains a convolution."""
        return any("Conv" in operation for operation in self.operations)

    @property
    def calls_functions(self) -> bool:
        """True if the trace calls a `tf.function`, which has its own traces."""
        return any(node.op in _NESTED_CALLS for node in _all_nodes(self.function.graph.as_graph_def()))

    @property
    def calls_python(self) -> bool:
        """True if a Python function of this process computes a part of the outputs or of their gradient."""
        return any(
            node.op in _PYTHON_CALLS or node.attr["_gradient_op_type"].s.startswith(b"CustomGradient")
            for node in _all_nodes(self.function.graph.as_graph_def())
        )


def trace(
    classifier: Callable[..., Any],
    image_shape: tuple[int, ...],
    *,
    scores: str,
    variables: Sequence[Any] = (),
) -> Trace:
    """Traces a classifier in inference mode.

    Args:
        classifier: A Keras model or a callable, images `[batch, ...]` to outputs `[batch, classes]`.
        image_shape: The shape of one image.
        scores: "logits" removes a final softmax or sigmoid, and returns two classes for one output; a probability whose sigmoid
            cannot be removed is replaced by its logarithm. "logarithms" returns the logarithms of the outputs, "outputs" the
            outputs themselves.
        variables: Keras variables whose values become arguments: the function then maps `(values, images)` to scores.

    Raises:
        TypeError: If the classifier cannot be traced.
        ValueError: If it does not return `[batch, classes]`.
    """
    call = inference_call(classifier)
    found: dict[str, Any] = {}

    def compute(images: tf.Tensor) -> tf.Tensor:
        outputs = _checked_outputs(call(images), images, scores)
        found["outputs"], found["threshold"] = outputs, None
        if outputs.shape[1] == 1 and scores != "outputs":
            found["threshold"] = _checked_threshold(outputs, images)
        found["end"] = _end_of(outputs, images, found["threshold"])
        return tf.cast(_scores(outputs, scores, found["end"], found["threshold"]), tf.float32)

    def compute_with(values: Sequence[tf.Tensor], images: tf.Tensor) -> tf.Tensor:
        with keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True))):
            return compute(images)

    specs = [tf.TensorSpec(tuple(variable.shape), variable.dtype) for variable in variables]
    try:
        function, batch_size = _traced_for_any_batch(
            (lambda images: tf.function(compute_with, autograph=False).get_concrete_function(specs, images))
            if variables
            else (lambda images: tf.function(compute, autograph=False).get_concrete_function(images)),
            image_shape,
            classifier,
        )
    except _NotAClassifierError as error:
        raise ValueError(str(error)) from error.__cause__
    outputs = found["outputs"]
    definition = function.graph.as_graph_def()
    return Trace(
        function=function,
        batch_size=batch_size,
        num_outputs=int(outputs.shape[1]),
        cuts=found["end"] is not None,
        threshold=found["threshold"],
        rounding=_rounding(function.graph),
        operations=frozenset(node.op for node in _all_nodes(definition)),
        draws_random_numbers=_draws_random_numbers(function),
        bytes_per_image=_bytes_of_rows(function.graph, batch_size),
    )


def inference_call(classifier: Callable[..., Any]) -> Callable[[Any], Any]:
    """Returns the classifier as a function of images alone, with `training=False` if its call takes that argument."""
    mode = inference_mode(classifier.call if isinstance(classifier, keras.Layer) else classifier)
    return lambda images: classifier(images, **mode)


def inference_mode(call: Callable[..., Any]) -> dict[str, bool]:
    """Returns the keyword argument `training=False` for a call; no argument if the call does not take it."""
    try:
        return {"training": False} if "training" in inspect.signature(call).parameters else {}
    except (TypeError, ValueError):  # raised for built-in functions
        return {}


def _traced_for_any_batch(
    get: Callable[[tf.TensorSpec], Any], image_shape: tuple[int, ...], classifier: Any
) -> tuple[Any, int | None]:
    """Traces for any number of images; if that fails, for a fixed number."""
    try:
        return get(tf.TensorSpec((None, *image_shape), tf.float32)), None
    except _NotAClassifierError:
        raise
    except Exception:
        batch_size = _batch_size_of(classifier)
        try:
            return get(tf.TensorSpec((batch_size, *image_shape), tf.float32)), batch_size
        except _NotAClassifierError:
            raise
        except Exception as error:
            raise _untraceable(classifier, image_shape, error) from error


def _batch_size_of(classifier: Any) -> int:
    inputs = getattr(classifier, "inputs", None)
    fixed = inputs[0].shape[0] if inputs else None
    return int(fixed or _FIXED_BATCH)


def _untraceable(classifier: Any, image_shape: tuple[int, ...], error: Exception) -> Exception:
    reason = last_words(error)
    if isinstance(error, NotImplementedError) or "numpy" in str(error).lower() or "predict" in str(error):
        return TypeError(
            "classifier must compute with TensorFlow operations, so that there are gradients; it converts its images to NumPy. "
            f"Pass the Keras model itself, not model.predict. TensorFlow reports: {reason}"
        )
    name = getattr(classifier, "name", None) or getattr(classifier, "__name__", type(classifier).__name__)
    return ValueError(
        f"the classifier {name!r} does not accept images of shape {list(image_shape)}. Pass images of the shape that it "
        f"expects, with the batch axis first. It reports: {reason}"
    )


def last_words(error: Exception) -> str:
    """Returns the first informative line of an error message, without the dump that may follow."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith(("Exception encountered", "Arguments received", "•", "File"))]
    return (lines[0] if lines else type(error).__name__).replace("\x1b[1m", "").replace("\x1b[0m", "")[:300]


class _NotAClassifierError(ValueError):
    """Raised if the outputs are not scores of classes."""


def _checked_outputs(outputs: Any, images: tf.Tensor, scores: str) -> tf.Tensor:
    if isinstance(outputs, Mapping) and len(outputs) == 1:  # as the signatures of a SavedModel return
        outputs = next(iter(outputs.values()))
    if isinstance(outputs, Sequence | Mapping) and not isinstance(outputs, str | bytes):
        raise _NotAClassifierError(
            f"classifier must return one tensor of logits [batch, classes]; received a {type(outputs).__name__} of "
            f"{len(outputs)}. Build a keras.Model from the input to the output with the logits."
        )
    outputs = _as_tensor(outputs)
    rows = outputs.shape[0] if outputs.shape.rank else 0
    if outputs.shape.rank != 2 or outputs.shape[1] is None or rows not in (None, images.shape[0]):
        what = "features" if scores == "outputs" else "logits [batch, classes]"
        received = list(outputs.shape) if outputs.shape.rank is not None else "an unknown shape"
        raise _NotAClassifierError(
            f"classifier must map images {_with_batch(images.shape)} to {what}, one row for each image; received "
            f"{_with_batch(received) if isinstance(received, list) else received}.{_about_rows(outputs, images)}"
        )
    if outputs.shape[1] == 0:
        raise _NotAClassifierError(
            "classifier must return at least one output for each image; received outputs of shape [batch, 0]. Check the number "
            "of units of its last layer."
        )
    if not outputs.dtype.is_floating:
        raise _NotAClassifierError(
            f"classifier must return floating-point logits; received {outputs.dtype.name}. Pass the network without its argmax."
        )
    return outputs


def _about_rows(outputs: tf.Tensor, images: tf.Tensor) -> str:
    if outputs.shape.rank != 2 or outputs.shape[0] in (None, images.shape[0]):
        return ""
    expected = "as many rows as images" if images.shape[0] is None else f"{images.shape[0]} rows for {images.shape[0]} images"
    return f" Expected {expected}; received {outputs.shape[0]} rows."


def _as_tensor(outputs: Any) -> tf.Tensor:
    if outputs is None:
        raise _NotAClassifierError(
            "classifier must return logits [batch, classes]; received None. Check that the function ends with a return "
            "statement."
        )
    if isinstance(outputs, str | bytes) or callable(outputs):
        raise _NotAClassifierError(
            f"classifier must return a tensor of logits [batch, classes]; received a {type(outputs).__name__}. Return the "
            "tensor itself."
        )
    try:
        return tf.convert_to_tensor(outputs)
    except (TypeError, ValueError) as error:
        raise _NotAClassifierError(
            f"classifier must return a tensor of logits [batch, classes]; received a {type(outputs).__name__}, which "
            "TensorFlow does not convert to one."
        ) from error


def _with_batch(shape: Iterable[int | None]) -> str:
    return f"[{', '.join('batch' if size is None else str(size) for size in shape)}]"


def _checked_threshold(outputs: tf.Tensor, images: tf.Tensor) -> float | None:
    try:
        return threshold_of(outputs, images)
    except ValueError as error:
        raise _NotAClassifierError(str(error)) from None


def _scores(outputs: tf.Tensor, scores: str, end: tf.Tensor | None, threshold: float | None) -> tf.Tensor:
    if scores == "outputs":
        return outputs
    single = outputs.shape[1] == 1
    if scores == "logits" and (end is not None or threshold != OF_PROBABILITY):
        logits = outputs if end is None else end
        return tf.concat([tf.zeros_like(logits), logits], axis=1) if single else logits
    outputs = tf.cast(outputs, tf.float32)
    probabilities = tf.concat([1.0 - outputs, outputs], axis=1) if single else outputs
    return tf.math.log(tf.maximum(probabilities, _LOWEST_PROBABILITY))


def _end_of(outputs: tf.Tensor, images: tf.Tensor, threshold: float | None) -> tf.Tensor | None:
    """Returns the input of the last softmax or sigmoid, if only operations that keep the order of classes follow it."""
    if outputs.shape[1] == 1:
        return None if threshold is None else logit_before(outputs, images, threshold)
    tensor, num_classes = outputs, outputs.shape[1]
    while isinstance(tensor, tf.Tensor) and not hasattr(tensor, "numpy") and len(tensor.op.inputs):
        operation = tensor.op
        if operation.type in ("Softmax", "Sigmoid"):
            logits = operation.inputs[0]
            return logits if logits.shape.rank == 2 and logits.shape[1] == num_classes else None
        source = _source_in_order(operation)
        if source is None or source.shape.rank != 2 or source.shape[1] != num_classes:
            return None
        tensor = source
    return None


def _source_in_order(operation: Any) -> tf.Tensor | None:
    """Returns the input whose largest entry is also the largest in the output; None if that is not known."""
    if operation.type in _CAST_AWAY:
        return operation.inputs[0] if operation.inputs[0].dtype.is_floating else None
    if operation.type not in ("Mul", "AddV2", "Add", "Sub", "RealDiv"):
        return None
    left, right = operation.inputs
    constant, variable = (right, left) if _scalar(right) is not None else (left, right)
    value = _scalar(constant)
    swapped = variable is right and operation.type in ("Sub", "RealDiv")
    positive = operation.type in ("AddV2", "Add", "Sub") or (value is not None and value > 0.0)
    return variable if value is not None and positive and not swapped else None


def _scalar(tensor: tf.Tensor) -> float | None:
    value = tf.get_static_value(tensor)
    return float(value.reshape(())) if value is not None and value.size == 1 else None


def _rounding(graph: Any) -> float:
    dtypes = {tensor.dtype for operation in graph.get_operations() for tensor in operation.outputs}
    return max([_PRECISIONS[dtype] for dtype in dtypes if dtype in _PRECISIONS], default=_DEFAULT_PRECISION)


def _draws_random_numbers(function: Any) -> bool:
    """Returns True if the outputs depend on a random operation, also inside loops and functions."""
    library = function.graph.as_graph_def().library.function
    nested = any(_RANDOM.search(node.op) for part in library for node in part.node_def)
    names = {part.signature.name for part in library}
    waiting, seen = [tensor.op for tensor in function.outputs], set()
    while waiting:
        operation = waiting.pop()
        if operation.name in seen:
            continue
        seen.add(operation.name)
        calls = any(value.func.name in names for value in operation.node_def.attr.values() if value.HasField("func"))
        if _RANDOM.search(operation.type) or (calls and nested):
            return True
        waiting.extend(tensor.op for tensor in operation.inputs)
    return False


def _all_nodes(definition: Any) -> list[Any]:
    return [*definition.node, *(node for function in definition.library.function for node in function.node_def)]


def _bytes_of_rows(graph: Any, batch_size: int | None) -> int:
    """Returns the bytes per image of all tensors that depend on the images: those whose first axis is the batch."""
    outputs = [
        tensor
        for operation in graph.get_operations()
        if operation.type not in ("Const", "Placeholder", "ReadVariableOp")
        for tensor in operation.outputs
        if tensor.shape.rank and tensor.shape[0] == batch_size
    ]
    return sum(prod(int(size or 1) for size in tensor.shape[1:]) * (tensor.dtype.size or 0) for tensor in outputs)
