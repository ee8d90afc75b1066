"""Flags of every script: accelerator and strategy, workdir, and seed."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import keras
import tensorflow as tf
from absl import app, flags, logging

from components.artifacts import CorruptArtifactError
from intriguing.distribution.compilation import enable_cache
from intriguing.distribution.strategy import ACCELERATORS, STRATEGIES, strategy_for

_ACCELERATOR = flags.DEFINE_enum("accelerator", "cpu", ACCELERATORS, "Kind of device that computes.")
_STRATEGY = flags.DEFINE_enum("strategy", "auto", STRATEGIES, "Distribution strategy; auto uses every device of this machine.")
_TPU = flags.DEFINE_string("tpu", None, "Name or address of a TPU, or local.")
_SEED = flags.DEFINE_integer("seed", 0, "Seed of weights, order, samples, targets and noise.", lower_bound=0)
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder for all results; a folder in runs/ if omitted.")


def workdir(default: str) -> Path:
    """Returns the folder that steps are written to: the flag's, or `default`."""
    return Path(_WORKDIR.value or default)


def run(main: Callable[[], None]) -> None:
    """Runs a script: refuses stray arguments, opens the strategy, and reports a user's mistake in one line.

    Compiled programs are kept on disk for the next script, as `intriguing.distribution.enable_cache` describes.

    Args:
        main: The script, without arguments, called in the scope of the strategy.
    """

    def with_strategy(argv: Sequence[str]) -> None:
        if len(argv) > 1:
            raise app.UsageError(
                f"stray arguments {' '.join(argv[1:])!r}; every setting is a flag, such as --seed=1. Try --help."
            )
        if not flags.FLAGS["verbosity"].present:
            logging.set_verbosity(logging.WARNING)  # TFDS announces every read
        with _one_line_errors():
            keras.utils.set_random_seed(_SEED.value)
            with strategy_for(_ACCELERATOR.value, strategy=_STRATEGY.value, tpu=_TPU.value).scope():
                main()

    enable_cache()  # before absl starts: TensorFlow then lists its devices and reads its flags for the last time
    app.run(with_strategy)


@contextlib.contextmanager
def _one_line_errors() -> Iterator[None]:
    """Exits with the message alone if this project raised the error, and with a traceback otherwise."""
    try:
        yield
    except KeyboardInterrupt:
        sys.exit("Interrupted. The same command goes on after the last step that was finished.")
    except (ValueError, TypeError, OSError, CorruptArtifactError, RuntimeError, ModuleNotFoundError) as error:
        if isinstance(error, tf.errors.OpError) or not _is_ours(error):
            raise
        sys.exit(f"{type(error).__name__}: {error}")


def _is_ours(error: BaseException) -> bool:
    """True if the error was raised in a file of this project, not somewhere below it."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    root = Path(__file__).resolve().parent.parent
    ours = [root / package for package in ("intriguing", "components", "launch")]
    return trace is not None and any(Path(trace.tb_frame.f_code.co_filename).resolve().is_relative_to(room) for room in ours)
