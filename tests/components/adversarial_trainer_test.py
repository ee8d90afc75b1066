"""AdversarialTrainer writes its record and summaries for TensorBoard, and resumes an interrupted training."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from components.adversarial_trainer import executor
from components.adversarial_trainer.component import AdversarialTrainer
from components.artifacts import TrainedModel
from components.contract import Component
from components.example_gen.component import ExampleGen
from components.runner import run
from components.settings import to_parameters
from components.trainer.component import Trainer
from intriguing.training import AdversarialTraining, LayerPool, MinibatchTraining, fit_adversarially
from tests.components.toys import TINY_POOLS

ATOL_WEIGHTS = 1e-6  # only the order of summation in threads may differ


def _steps(workdir: Path, digits_dir: Path, training: Any = TINY_POOLS, log_dir: str = "") -> list[Component]:
    subset = ExampleGen(
        "subset", workdir, dataset="mnist_5k", data_dir=str(digits_dir), manual_dir="", subset="train[:200]", disjoint_from=[],
        image_size=[], shorter_side=0, content="",
    )  # fmt: skip
    trainer = AdversarialTrainer(
        "train_toy", workdir, subset=subset, name="toy", model="FC10(1e-2)", training=to_parameters(training), seed=1,
        log_dir=log_dir,
    )  # fmt: skip
    return [subset, trainer]


@pytest.fixture(scope="module")
def finished(digits_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an uninterrupted training, with its logs in the same folder."""
    workdir = tmp_path_factory.mktemp("adversarial")
    run(_steps(workdir / "steps", digits_dir, log_dir=str(workdir / "logs")))
    return workdir


@pytest.mark.slow
def test_record_has_the_fields_of_a_trainer_and_the_rounds(finished: Path, digits_dir: Path, tmp_path: Path) -> None:
    subset, _ = _steps(tmp_path, digits_dir)
    plain = Trainer(
        "train_plain", tmp_path, subset=subset, name="plain", model="FC10(1e-2)",
        training=to_parameters(MinibatchTraining(num_epochs=1)), seed=1,
    )  # fmt: skip
    run([subset, plain])
    training = TrainedModel(finished / "steps" / "train_toy").record()
    assert training.rounds and not plain.output.record().rounds
    assert (training.name, training.model, training.subset) == ("toy", "FC10(1e-2)", "train[:200]")
    assert len(training.losses) == TINY_POOLS.num_rounds
    assert training.train_errors.num_trials == 200
    first, *others = training.rounds
    assert [record.num_epochs for record in training.rounds] == [1, 2, 3, 4, 5]
    assert first.num_tried == {} and first.pool_losses == {"images": 0.0}
    for record in others:
        assert record.num_tried == {"images": 8}
        assert 0 < record.num_found["images"] <= 8
        assert record.pool_losses["images"] > 0 and record.least_distortions["images"] > 0


def test_resumed_training_ends_with_the_weights_of_an_uninterrupted_one(
    finished: Path, digits_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds: list[int] = []
    interrupted_after = 2

    def fit(*args: Any, report: Any, on_round: Any, **options: Any) -> Any:
        def count(done: int, total: int, remark: str) -> None:
            if remark.startswith("epoch"):
                rounds.append(done)
            report(done, total, remark)

        def stop(record: Any) -> None:
            on_round(record)
            if len(rounds) == interrupted_after and interrupting:
                raise KeyboardInterrupt

        return fit_adversarially(*args, report=count, on_round=stop, **options)

    def write_round(*args: Any) -> None:
        raise AssertionError("summaries were written although log_dir is empty")

    monkeypatch.setattr(executor, "write_round", write_round)
    monkeypatch.setattr(executor, "fit_adversarially", fit)
    interrupting = True
    with pytest.raises(KeyboardInterrupt):
        run(_steps(tmp_path, digits_dir))
    assert sorted(path.name for path in tmp_path.iterdir()) == [".train_toy.tmp", "subset"]
    assert rounds == [1, 2]
    interrupting = False
    run(_steps(tmp_path, digits_dir))
    assert rounds == [1, 2, 3, 4, 5], "no round is repeated"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["subset", "train_toy"]
    whole, resumed = (TrainedModel(folder / "train_toy") for folder in (finished / "steps", tmp_path))
    for expected, weight in zip(whole.load().get_weights(), resumed.load().get_weights(), strict=True):
        np.testing.assert_allclose(weight, expected, rtol=0, atol=ATOL_WEIGHTS)
    assert len(resumed.record().rounds) == 5


def test_every_round_is_written_to_tensorboard(finished: Path) -> None:
    pytest.importorskip("tensorboard")
    (path,) = (finished / "logs").glob("events.out.tfevents.*")
    written: dict[str, dict[int, float]] = {}
    for event in tf.compat.v1.train.summary_iterator(str(path)):
        for value in event.summary.value:
            written.setdefault(value.tag, {})[event.step] = float(tf.make_ndarray(value.tensor))
    rounds = TrainedModel(finished / "steps" / "train_toy").record().rounds
    assert list(written["clean_loss"]) == [4, 8, 12, 16, 20]
    assert written["pool_loss/images"][8] == pytest.approx(rounds[1].pool_losses["images"], rel=1e-6)
    assert written["least_distortion/images"][12] == pytest.approx(rounds[2].least_distortions["images"], rel=1e-6)
    assert written["share_found/images"][8] == pytest.approx(rounds[1].num_found["images"] / 8, rel=1e-6)


def test_missing_tensorboard_raises_before_training(digits_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match="tensorboard is not installed"):
        run(_steps(tmp_path, digits_dir, log_dir=str(tmp_path / "logs")))


def test_each_trainer_refuses_settings_of_the_other(digits_dir: Path, tmp_path: Path) -> None:
    subset, pools = _steps(tmp_path, digits_dir, training=MinibatchTraining())
    plain = Trainer(
        "plain", tmp_path, subset=subset, name="plain", model="FC10(1)", training=to_parameters(AdversarialTraining()), seed=0
    )
    with pytest.raises(TypeError, match="must have pools; received a MinibatchTraining. Use a Trainer."):
        run([subset, pools])
    with pytest.raises(TypeError, match="has no pools; received a AdversarialTraining. Use an AdversarialTrainer."):
        run([subset, plain])


def test_unknown_layer_error_names_the_nearest_layer(digits_dir: Path, tmp_path: Path) -> None:
    training = dataclasses.replace(TINY_POOLS, pools=(LayerPool(layer="pixls"),))
    with pytest.raises(ValueError, match="unknown layer 'pixls'. Did you mean 'pixels'?"):
        run(_steps(tmp_path, digits_dir, training=training))


def test_trained_model_has_the_layers_of_the_zoo_network(finished: Path) -> None:
    model = TrainedModel(finished / "steps" / "train_toy").load()
    assert isinstance(model, keras.Model)
    assert [layer.name for layer in model.layers] == ["pixels", "logits"]
