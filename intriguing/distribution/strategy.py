"""The strategy for CPU, GPU and TPU. No other file of the library names a device."""

from __future__ import annotations

import functools
import os

import tensorflow as tf

ACCELERATORS = ("cpu", "gpu", "tpu")
STRATEGIES = ("auto", "one_device", "mirrored", "multi_worker_mirrored", "tpu")


def strategy_for(accelerator: str = "cpu", *, strategy: str = "auto", tpu: str | None = None) -> tf.distribute.Strategy:
    """Returns a `tf.distribute` strategy. Programs run under it if they are called in its scope.

    Args:
        accelerator: "cpu", "gpu" or "tpu".
        strategy: "auto" uses every device of that kind on this machine, with a mirrored strategy if there are several.
            "multi_worker_mirrored" reads the cluster from the environment variable `TF_CONFIG`.
        tpu: Name or address of the TPU, or "local" on a TPU machine. If omitted, it is read from the environment.

    Returns:
        The strategy. Build models inside `strategy.scope()`. Training and attacks use the strategy in whose scope they are
        called.

    Raises:
        ValueError: If a name is unknown, or the strategy does not run on the accelerator.
        RuntimeError: If the devices are not found; the message names them.

    Example:
        >>> with strategy_for("cpu", strategy="one_device").scope():
        ...     results = minimize_distortion(model, images[:4], labels=labels[:4], search="training")
    """
    _check_names(accelerator, strategy, tpu)
    if accelerator == "tpu":
        return _tpu_strategy(tpu)
    # Physical devices first: listing logical devices starts TensorFlow, which then cannot join other workers.
    if not tf.config.list_physical_devices(accelerator.upper()):
        raise RuntimeError(
            f"No {accelerator} found: TensorFlow {tf.__version__} lists the devices "
            f"{[device.name for device in tf.config.list_physical_devices()]}. Use --accelerator=cpu, or install "
            "intriguing[gpu] together with a driver that matches."
        )
    if strategy == "multi_worker_mirrored":
        return _multi_worker_strategy(accelerator)
    devices = [device.name for device in tf.config.list_logical_devices(accelerator.upper())]
    if strategy == "mirrored" or (strategy == "auto" and len(devices) > 1):
        return _mirrored_strategy(tuple(devices))
    return tf.distribute.OneDeviceStrategy(devices[0])


def writes_files() -> bool:
    """Returns whether this process saves results: True except on workers that are not the chief.

    Example:
        >>> writes_files()
        True
    """
    resolver = tf.distribute.get_strategy().cluster_resolver
    if resolver is None or not resolver.cluster_spec().jobs:
        return True
    chief = "chief" in resolver.cluster_spec().jobs
    return resolver.task_type == "chief" or (not chief and resolver.task_type == "worker" and resolver.task_id == 0)


def num_replicas() -> int:
    """Returns the number of devices among which the current strategy divides the rows of a batch."""
    return int(tf.distribute.get_strategy().num_replicas_in_sync)


@functools.cache
def _mirrored_strategy(devices: tuple[str, ...]) -> tf.distribute.MirroredStrategy:
    """Returns the same strategy for the same devices: the collectives of two strategies would have the same keys."""
    return tf.distribute.MirroredStrategy(list(devices))


def computes_on_cpu() -> bool:
    """Returns whether all devices of the current strategy are CPUs; without a strategy, all devices of this machine."""
    if tf.distribute.has_strategy():
        devices = tf.distribute.get_strategy().extended.worker_devices
    else:
        devices = [device.name for kind in ("GPU", "TPU") for device in tf.config.list_logical_devices(kind)] or ["CPU"]
    return all("CPU" in device for device in devices)


def _check_names(accelerator: str, strategy: str, tpu: str | None) -> None:
    if accelerator not in ACCELERATORS:
        raise ValueError(f"unknown accelerator {accelerator!r}. Known: {', '.join(ACCELERATORS)}.")
    if strategy not in STRATEGIES:
        raise ValueError(f"unknown strategy {strategy!r}. Known: {', '.join(STRATEGIES)}.")
    if (strategy == "tpu" and accelerator != "tpu") or (accelerator == "tpu" and strategy not in ("auto", "tpu")):
        raise ValueError(
            f"strategy {strategy!r} does not run on accelerator {accelerator!r}. Use --accelerator=tpu --strategy=auto."
        )
    if tpu is not None and accelerator != "tpu":
        raise ValueError(f"a TPU name ({tpu!r}) was given, but the accelerator is {accelerator!r}. Use --accelerator=tpu.")


def _multi_worker_strategy(accelerator: str) -> tf.distribute.Strategy:
    if not os.environ.get("TF_CONFIG"):
        raise RuntimeError(
            "multi_worker_mirrored needs the environment variable TF_CONFIG, which is not set. It names the workers and this "
            'task, for example {"cluster": {"worker": ["host1:2222", "host2:2222"]}, "task": {"type": "worker", "index": 0}}.'
        )
    if accelerator == "cpu":
        tf.config.set_visible_devices([], "GPU")  # the strategy uses every visible GPU
    return tf.distribute.MultiWorkerMirroredStrategy()


def _tpu_strategy(tpu: str | None) -> tf.distribute.Strategy:
    address = tpu or os.environ.get("TPU_NAME") or ""
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu=address)
        if address not in ("", "local"):
            tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
    except (ValueError, tf.errors.OpError, RuntimeError) as error:
        reason = str(error).splitlines()[0].rstrip(".")  # the other lines list TensorFlow's operations
        raise RuntimeError(
            f"No TPU found: looked for {address!r} (from --tpu, then TPU_NAME) with TensorFlow {tf.__version__}: {reason}. On "
            "a TPU machine or in Colab pass --tpu=local and install tensorflow-tpu in place of tensorflow; elsewhere use "
            "--accelerator=cpu."
        ) from error
    return tf.distribute.TPUStrategy(resolver)
