"""What an import loads in a fresh process: no package that only other parts of the library, or a first call, require."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent

# Each thread traces a program, as the replicas of a strategy do.
FIRST_USE_IN_THREADS = """
import sys, threading
import tensorflow as tf
from intriguing.attack import minimize_in_box
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


def _run(program: str) -> None:
    done = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def test_lbfgs_imports_tensorflow_probability_at_its_first_use_from_several_threads() -> None:
    _run(FIRST_USE_IN_THREADS)
