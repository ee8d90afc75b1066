"""Every test runs with two logical CPUs, full float32 precision and a fixed seed."""

import atexit
import os
import shutil
import tempfile
from importlib.metadata import version

# Set before TensorFlow is imported. Compilation dominates the time of a test, and no test measures the speed of programs.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Fusion emitters take a third of the compilation time of a search. XLA ends the process at an unknown flag.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0"
    + (" --xla_cpu_use_fusion_emitters=false" if version("tensorflow").startswith("2.21.") else ""),
)

import keras
import pytest
import tensorflow as tf

from intriguing.distribution import compilation, compilation_cache
from intriguing.distribution.compilation_cache import enable_cache
from intriguing.distribution.strategy import strategy_for

# Workers of pytest-xdist and scripts started by tests inherit the variable and share the compiled programs.
if "INTRIGUING_XLA_CACHE" not in os.environ:
    os.environ["INTRIGUING_XLA_CACHE"] = tempfile.mkdtemp(prefix="intriguing-xla-")
    atexit.register(shutil.rmtree, os.environ["INTRIGUING_XLA_CACHE"], ignore_errors=True)
enable_cache()

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration(), tf.config.LogicalDeviceConfiguration()]
)
# TensorFloat-32 has ten bits of mantissa, which is too few for L-BFGS and for spectral norms.
tf.config.experimental.enable_tensor_float_32_execution(False)


@pytest.fixture(autouse=True)
def fixed_seed():
    keras.utils.set_random_seed(0)


@pytest.fixture(scope="session")
def two_replicas():
    """A mirrored strategy over the two logical CPUs."""
    return strategy_for("cpu", strategy="mirrored")


@pytest.fixture
def cache(tmp_path):
    """The empty folder of a cache of compiled programs for this test."""
    compilation_cache.collect()
    folder = enable_cache(tmp_path / "cache")
    assert folder is not None
    yield folder
    enable_cache()


def pytest_collection_modifyitems(items):
    """Runs files with slow tests first, so that both processes finish at nearly the same time."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def pytest_runtest_setup(item):
    """Ends the session before a compilation would exceed the limit of memory mappings. XLA never frees a program."""
    number = compilation._num_mappings() if "attack" in item.path.parts else 0
    if number > compilation._mapping_limit() - 4000:
        pytest.exit(
            f"{number} memory mappings are nearly all that a process may have. Share the tests among processes: pytest -n 2", 1
        )
