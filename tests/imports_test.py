"""Imports load only the packages that they need, in a fresh process."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent

# TensorFlow imports Keras, and Keras imports Matplotlib, SciPy and PIL. Only modules loaded in addition to these count.
LIGHT_IMPORTS = """
import sys
import keras, tensorflow
before = set(sys.modules)
import intriguing, intriguing.lipschitz, intriguing.units, intriguing.attack, intriguing.models, intriguing.training
import intriguing.statistics, intriguing.evaluation, intriguing.optimize, intriguing.distribution
packages = {name.split(".")[0] for name in set(sys.modules) - before}
heavy = {"PIL", "jinja2", "matplotlib", "pandas", "scipy", "tensorflow_datasets", "tensorflow_probability", "tf_keras"}
assert not packages & heavy, f"loaded {sorted(packages & heavy)}"
# Without the import of its module, Keras does not find a class of a saved model.
assert keras.saving.get_registered_object("intriguing>ContrastNormalization")
assert keras.saving.get_registered_object("intriguing>SpectralRegularizer")
packages = set(intriguing.__all__) - {"__version__", "minimize_distortion"}
assert all(getattr(intriguing, name).__name__ == f"intriguing.{name}" for name in packages)
assert set(intriguing.__all__) <= set(dir(intriguing))
assert not hasattr(intriguing, "no_such_package")
"""

# Each thread traces a program, like the replicas of a strategy.
FIRST_USE_IN_THREADS = """
import sys, threading
import tensorflow as tf
from intriguing.optimize import minimize_in_box
from intriguing.pixels import PixelBox
assert "tensorflow_probability" not in sys.modules
NUM_THREADS = 4
barrier = threading.Barrier(NUM_THREADS)
ends = []

def minimize():
    barrier.wait()
    run = tf.function(
        lambda start: minimize_in_box(
            lambda x: (tf.reduce_sum((x - 2.0) ** 2, -1), 2.0 * (x - 2.0)), start, pixel_box=PixelBox(0.0, 1.0)
        ).position,
        autograph=False,
    )
    ends.append(run(tf.zeros([1, 3])).numpy().tolist())

threads = [threading.Thread(target=minimize) for _ in range(NUM_THREADS)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
assert ends == [[[1.0, 1.0, 1.0]]] * NUM_THREADS, ends
"""


def _error_of(program: str) -> str:
    """Runs a program in its own process. Returns its stderr if it failed, and an empty string otherwise."""
    done = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, timeout=300)
    return done.stderr or "no message" if done.returncode else ""


def test_error_of_returns_the_stderr_of_a_failing_program() -> None:
    assert "AssertionError" in _error_of("assert False")


def _imported_at_the_top(path: Path) -> set[str]:
    """Returns the packages that a file imports outside of functions and classes."""
    imports = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.Import | ast.ImportFrom)]
    names = [[alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""] for node in imports]
    return {name.split(".")[0] for group in names for name in group}


def test_scipy_is_imported_only_inside_functions() -> None:
    """Importing scipy.stats takes most of a second. Keras does so if scikit-learn is installed, hence the sources are checked."""
    files = sorted((REPOSITORY / "intriguing").rglob("*.py"))
    assert [str(path) for path in files if "scipy" in _imported_at_the_top(path)] == []
    assert "numpy" in _imported_at_the_top(REPOSITORY / "intriguing" / "pixels.py")


def test_packages_import_no_unneeded_dependencies() -> None:
    assert _error_of(LIGHT_IMPORTS) == ""


@pytest.mark.slow
def test_lbfgs_imports_tensorflow_probability_at_first_use_from_several_threads() -> None:
    assert _error_of(FIRST_USE_IN_THREADS) == ""
