"""State of TensorFlow that no public function reports; the only file of this package that reads private names of TensorFlow."""

from __future__ import annotations


def gradients_are_recorded() -> bool:
    """Returns whether the call is inside a `tf.GradientTape`; False if TensorFlow has moved the private function."""
    try:
        from tensorflow.python.eager.record import could_possibly_record
    except ImportError:
        return False
    return bool(could_possibly_record())


def tensorflow_has_started() -> bool:
    """Returns whether TensorFlow has listed its devices, when it also reads its flags; False if it has moved that state."""
    try:
        from tensorflow.python.eager.context import context_safe

        context = context_safe()
        return context is not None and (context._initialized or context._physical_devices is not None)
    except (ImportError, AttributeError):
        return False
