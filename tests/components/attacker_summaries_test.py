"""Summaries of an attack for TensorBoard."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from components.attacker.summaries import check_tensorboard, write_summaries
from intriguing.attack import DistortionResults, SearchStatus


def test_missing_tensorboard_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match="tensorboard is not installed.*leave --tensorboard_dir out"):
        check_tensorboard()


def test_summaries_have_a_step_per_batch_and_exclude_failed_images(tmp_path: Path) -> None:
    results = DistortionResults(
        distorted=tf.zeros([4, 3]),
        perturbation=tf.zeros([4, 3]),
        l2=tf.zeros(4),
        distortion=tf.constant([0.1, 0.3, np.nan, 0.5]),
        succeeded=tf.constant([True, True, False, True]),
        status=tf.constant([SearchStatus.CONVERGED] * 4),
        c=tf.constant([1.0, 3.0, np.nan, np.inf]),
        num_evaluations=tf.constant([10, 20, 30, 40]),
    )
    write_summaries(str(tmp_path), results, batch_size=2)
    (file,) = tmp_path.glob("events.out.tfevents.*")
    written = {}
    for event in tf.compat.v1.train.summary_iterator(str(file)):
        for value in event.summary.value:
            if value.tag.startswith(("mean_", "share_")):
                written[value.tag, event.step] = float(tf.make_ndarray(value.tensor))
    expected = {
        ("share_succeeded", 0): 1.0, ("share_succeeded", 1): 0.5, ("mean_c", 0): 2.0,
        ("mean_distortion", 0): 0.2, ("mean_distortion", 1): 0.5,
        ("mean_num_evaluations", 0): 15.0, ("mean_num_evaluations", 1): 35.0,
    }  # fmt: skip
    assert written.keys() == expected.keys()
    np.testing.assert_allclose(list(written.values()), [expected[key] for key in written], rtol=1e-6)
