"""Runs programs without tracing, for tests of many networks, because tracing a search takes longer than an attack."""

import contextlib

import tensorflow as tf


@contextlib.contextmanager
def op_by_op(active=True):
    tf.config.run_functions_eagerly(active)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(False)
