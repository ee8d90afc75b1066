"""Runs programs without tracing them, for tests of many networks: to trace a search takes far longer than one attack."""

import contextlib

import tensorflow as tf


@contextlib.contextmanager
def op_by_op(active=True):
    tf.config.run_functions_eagerly(active)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(False)
