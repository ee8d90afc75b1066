"""Execution of programs: strategies for CPU, GPU and TPU, batches of rows, compilation and its cache."""

from intriguing.distribution.compilation import compile_program
from intriguing.distribution.compilation_cache import enable_cache
from intriguing.distribution.map_rows import run_on_rows
from intriguing.distribution.strategy import strategy_for, writes_files

__all__ = [
    "compile_program",
    "enable_cache",
    "run_on_rows",
    "strategy_for",
    "writes_files",
]
