"""The private names of TensorFlow exist and behave as the library expects."""

import tensorflow as tf

from intriguing.distribution.tensorflow_internals import gradients_are_recorded, tensorflow_has_started


def test_gradients_are_recorded_only_inside_a_tape() -> None:
    assert not gradients_are_recorded()
    with tf.GradientTape() as tape:
        assert gradients_are_recorded()
        with tape.stop_recording():
            assert not gradients_are_recorded()


def test_tensorflow_has_started_after_an_operation() -> None:
    tf.zeros([])
    assert tensorflow_has_started() is True
