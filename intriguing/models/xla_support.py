"""Determines whether XLA can compile a classifier and its gradient; it cannot compile Python functions, for example."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import tensorflow as tf

_NUM_IMAGES = 2
# Operations of dense and convolutional networks that XLA compiles. For others, a compilation is tried.
_COMPILED = frozenset(
    """
    Abs Add AddN AddV2 All Any ArgMax AvgPool BatchMatMulV2 BiasAdd BroadcastTo Cast ConcatV2 Const Conv2D
    DepthwiseConv2dNative Einsum Elu Equal Erf Exp ExpandDims Expm1 Fill Floor FusedBatchNormV3 GatherV2 Greater GreaterEqual
    Identity IdentityN L2Loss LeakyRelu Less LessEqual Log Log1p LogSoftmax LogicalAnd LogicalNot LogicalOr MatMul Max MaxPool
    Maximum Mean Min Minimum Mul Neg NoOp NotEqual OneHot OnesLike Pack Pad PadV2 PartitionedCall Placeholder Pow
    PreventGradient Prod Range Rank ReadVariableOp RealDiv Reciprocal Relu Relu6 Reshape Round Rsqrt SelectV2 Selu Shape Sigmoid
    Sign Slice Softmax Softplus Softsign Sqrt Square SquaredDifference Squeeze StatefulPartitionedCall StopGradient StridedSlice
    Sub Sum Tanh Tile Transpose Unpack ZerosLike
    """.split()
)

# XLA cannot determine the shapes in the gradient of a loop over time steps.
_LOOPS = frozenset({"While", "StatelessWhile"})


def compiles(
    operations: Iterable[str],
    apply: Callable[..., tf.Tensor],
    arguments: Iterable[tf.TensorSpec],
    image_shape: Iterable[int],
) -> bool:
    """Returns True if XLA compiles a loop that evaluates a classifier and its gradient with respect to the images.

    Args:
        operations: The types of all operations. If XLA compiles all of them for certain, no compilation is tried.
        apply: From weights and images `[batch, ...]` to scores.
        arguments: Shapes and dtypes of the weights.
        image_shape: The shape of one image.
    """
    if _COMPILED.issuperset(operations):
        return True
    if not _LOOPS.isdisjoint(operations):
        return False

    def step(number: tf.Tensor, weights: list[tf.Tensor], images: tf.Tensor) -> tuple[tf.Tensor, list[tf.Tensor], tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(images)
            total = tf.reduce_sum(apply(weights, images))
        gradient = tape.gradient(total, images, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        return number + 1, weights, images + gradient

    # Inside a loop, XLA can infer fewer shapes than outside.
    @tf.function(jit_compile=True, autograph=False)
    def loop(weights: list[tf.Tensor], images: tf.Tensor) -> Any:
        return tf.while_loop(lambda number, *_: number < 2, step, (tf.constant(0), weights, images))

    try:
        with tf.init_scope():
            weights = [tf.zeros(spec.shape, spec.dtype) for spec in arguments]
            loop.experimental_get_compiler_ir(weights, tf.zeros([_NUM_IMAGES, *image_shape]))(stage="hlo")
    except (tf.errors.OpError, ValueError, TypeError, LookupError):
        return False
    return True
