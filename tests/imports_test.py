"""What an import loads in a fresh process: no package that only other parts of the library, or a first call, require."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent

# TensorFlow itself imports Keras, and with it Matplotlib, SciPy and PIL: what counts is what is loaded beyond these.
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

# Each thread traces a program, as the replicas of a strategy do.
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
    """Runs a program in a process of its own, and returns what it printed to stderr if it failed."""
    done = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, timeout=300)
    return done.stderr or "no message" if done.returncode else ""


def test_the_error_of_a_program_is_found() -> None:
    assert "AssertionError" in _error_of("assert False")


def _imported_at_the_top(path: Path) -> set[str]:
    """Returns the packages that a file imports outside of functions and classes."""
    imports = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.Import | ast.ImportFrom)]
    names = [[alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""] for node in imports]
    return {name.split(".")[0] for group in names for name in group}


def test_scipy_is_imported_when_it_is_used() -> None:
    """Importing scipy.stats takes most of a second. With scikit-learn, Keras does; then loaded modules would not show it."""
    files = sorted((REPOSITORY / "intriguing").rglob("*.py"))
    assert [str(path) for path in files if "scipy" in _imported_at_the_top(path)] == []
    assert "numpy" in _imported_at_the_top(REPOSITORY / "intriguing" / "pixels.py")


def test_packages_load_no_dependency_that_they_do_not_need_at_import() -> None:
    assert _error_of(LIGHT_IMPORTS) == ""


@pytest.mark.slow
def test_lbfgs_imports_tensorflow_probability_at_its_first_use_from_several_threads() -> None:
    assert _error_of(FIRST_USE_IN_THREADS) == ""
