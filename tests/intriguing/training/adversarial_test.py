"""Tests of adversarial training: its rounds, its checkpoints, and its errors."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from intriguing.models.layer_split import IMAGES
from intriguing.training import adversarial, adversarial_pool
from intriguing.training.adversarial import AdversarialTraining, fit_adversarially
from intriguing.training.adversarial_pool import LayerPool
from intriguing.training.supervised import MinibatchTraining, fit_minibatches
from tests.intriguing.training.tiny_pools import (
    SEARCH,
    SHAPE,
    attack_without_search,
    dropping_network,
    endless,
    examples,
    network,
)

ATOL_RESUMED = 1e-6  # the same operations on the same numbers
POOLS = (LayerPool(layer="hidden1", size=12, replaced=0.5, share=0.3), LayerPool(size=9, replaced=0.4, share=0.2))
STEPS = 4  # of 16 images in an epoch


def settings(num_epochs=4, rounds_per_epoch=1, pools=POOLS, averaging=0.0, **options):
    minibatches = MinibatchTraining(num_epochs=num_epochs, batch_size=16, learning_rate=0.05, averaging=averaging)
    return AdversarialTraining(
        minibatches=minibatches, pools=pools, rounds_per_epoch=rounds_per_epoch, search=SEARCH, attack_batch_size=4, **options
    )


@pytest.fixture
def without_search(monkeypatch):
    """Replaces the attack, which takes long to compile. Returns the arguments of its calls."""
    calls = []

    def attack(classifier, images, *, labels, search):
        calls.append((np.asarray(images), np.asarray(labels), classifier.get_weights()))
        return attack_without_search(classifier, images, labels=labels, search=search)

    monkeypatch.setattr(adversarial_pool, "minimize_distortion", attack)
    return calls


def fit(model, chosen=None, num_classes=2, **options):
    data = endless(examples(64, num_classes=num_classes), 16)
    return fit_adversarially(model, data, steps_per_epoch=STEPS, settings=chosen or settings(), **options)


def test_record_has_every_round_and_pools_are_empty_in_the_first(without_search):
    reports, rounds = [], []
    record = fit(network(), settings(2, 3), report=lambda *remark: reports.append(remark), on_round=rounds.append)
    assert record.rounds == tuple(rounds) and len(record.losses) == settings(2, 3).num_rounds == 6
    assert [each.num_steps for each in rounds] == [1, 2, 4, 5, 6, 8]  # four batches are divided into three rounds
    assert [each.num_epochs for each in rounds] == [0.25, 0.5, 1.0, 1.25, 1.5, 2.0]
    first, *others = rounds
    assert set(first.pool_losses.values()) == {0.0} and first.num_tried == first.num_found == first.least_distortions == {}
    for each in others:
        assert each.num_tried == {"hidden1": 6, IMAGES: 4}
        assert each.num_found == {"hidden1": 3, IMAGES: 2}  # 2 of each chunk of 4 succeed; the last chunk has 2 rows
        assert all(value > 0.0 for value in [*each.pool_losses.values(), *each.least_distortions.values(), each.clean_loss])
    assert reports[:5] == [
        (1, 6, f"epoch 0.2, loss {record.losses[0]:.4g}"),
        (1, 6, "attacking hidden1, 4 of 6"), (1, 6, "attacking hidden1, 6 of 6"), (1, 6, "attacking images, 4 of 4"),
        (2, 6, f"epoch 0.5, loss {record.losses[1]:.4g}"),
    ]  # fmt: skip


def test_every_attack_uses_the_next_images_and_labels(without_search):
    images, labels = examples(64)
    model = network()
    fit(model, settings(4, 1))
    at_images = [(pictures, classes) for pictures, classes, _ in without_search if pictures.shape[1:] == SHAPE]
    assert len(at_images) == 3
    for number, (pictures, classes) in enumerate(at_images):
        np.testing.assert_array_equal(pictures, images[16 * number : 16 * number + 4])
        np.testing.assert_array_equal(classes, labels[16 * number : 16 * number + 4])


def test_attack_uses_the_trained_weights_not_their_average(without_search):
    models = [network(), network()]
    for model, averaging in zip(models, (0.0, 0.9), strict=True):
        fit(model, settings(3, averaging=averaging))
    calls = len(without_search) // 2
    for (*_, weights), (*_, others) in zip(without_search[:calls], without_search[calls:], strict=True):
        np.testing.assert_array_equal(weights[0], others[0])
    assert np.any(models[0].get_weights()[0] != models[1].get_weights()[0])  # the returned weights are the average


def test_first_round_is_plain_training(without_search):
    model, plain = network(), network()
    fit(model, settings(1))
    fit_minibatches(plain, endless(examples(64), 16), steps_per_epoch=STEPS, settings=settings(1).minibatches)
    for weight, other in zip(model.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_allclose(
            weight, other, atol=0.01
        )  # a factor of the gradient changes Adam only if the gradient is nearly zero


def test_rounds_do_not_trace_again(without_search, monkeypatch):
    traces = []
    plain = adversarial.training_step

    def counting(losses, schedule, state):
        def counted(trainable, fixed, batch):
            traces.append(None)
            return losses(trainable, fixed, batch)

        return plain(counted, schedule, state)

    monkeypatch.setattr(adversarial, "training_step", counting)
    fit(network(), settings(1))
    alone = len(traces)
    fit(network(), settings(2, 3))
    assert len(traces) == 2 * alone > 0


class KilledError(Exception):
    pass


def build_dropping():
    return dropping_network()


@pytest.fixture
def uninterrupted(without_search):
    model = build_dropping()
    return model, fit(model, settings(2, 2), num_classes=3, seed=4)


@pytest.mark.parametrize("rounds", [1, 2, 3])
def test_training_resumed_after_a_round_has_the_same_weights_and_record(rounds, uninterrupted, tmp_path):
    whole, record = uninterrupted
    finished, again = [], []

    def kill(each):
        finished.append(each)
        if len(finished) == rounds:
            raise KilledError

    options = {"num_classes": 3, "seed": 4, "checkpoint": tmp_path / "checkpoint"}
    with pytest.raises(KilledError):
        fit(build_dropping(), settings(2, 2), on_round=kill, **options)
    model = dropping_network(seed=9)  # other weights and seeds, which the checkpoint replaces
    resumed = fit(model, settings(2, 2), on_round=again.append, **options)
    np.testing.assert_allclose(resumed.losses, record.losses, atol=ATOL_RESUMED)
    assert len(resumed.rounds) == len(record.rounds) == 4 and tuple(again) == resumed.rounds
    for one, other in zip(resumed.rounds, record.rounds, strict=True):
        assert (one.num_steps, one.num_found, one.num_tried) == (other.num_steps, other.num_found, other.num_tried)
        assert one.pool_losses == pytest.approx(other.pool_losses, abs=ATOL_RESUMED)
        assert one.least_distortions == pytest.approx(other.least_distortions, abs=ATOL_RESUMED)
    assert len(model.variables) == len(whole.variables) == 12  # including two seeds
    for variable, expected in zip(model.variables, whole.variables, strict=True):
        np.testing.assert_allclose(variable, expected, atol=ATOL_RESUMED, err_msg=variable.path)


def test_training_killed_within_a_round_resumes_from_the_previous_round(without_search, tmp_path):
    def kill(done, total, remark):
        if done == 2 and remark.startswith("attacking images"):
            raise KilledError

    whole, model = network(), network()
    fit(whole)
    with pytest.raises(KilledError):
        fit(model, checkpoint=tmp_path / "checkpoint", report=kill)
    fit(model, checkpoint=tmp_path / "checkpoint")
    for weight, expected in zip(model.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_allclose(weight, expected, atol=ATOL_RESUMED)


@pytest.mark.parametrize(
    "change",
    [{"seed": 1}, {"chosen": settings(8)}, {"chosen": settings(pools=POOLS[:1])}, {"model": lambda: dropping_network()}],
    ids=["seed", "epochs", "pools", "model"],
)
def test_checkpoint_of_another_training_is_refused(change, without_search, tmp_path):
    path = tmp_path / "checkpoint"
    fit(network(), settings(1, pools=POOLS[:1]) if "chosen" not in change else settings(1), checkpoint=path)
    options = {"chosen": settings(1, pools=POOLS[:1]), **change}
    model = options.pop("model", network)()
    with pytest.raises(
        ValueError, match="must be a checkpoint of this training; received one of a training with other settings"
    ):
        fit(model, checkpoint=path, **options)


def test_truncated_checkpoint_is_refused_and_the_model_keeps_its_weights(without_search, tmp_path):
    path = tmp_path / "checkpoint"
    fit(network(), settings(1), checkpoint=path)
    path.write_bytes(path.read_bytes()[:-50])
    model = network(seed=5)
    before = model.get_weights()
    with pytest.raises(ValueError, match="checkpoint must be a checkpoint; it cannot be read"):
        fit(model, settings(1), checkpoint=path)
    for weight, expected in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, expected)


def test_model_with_a_final_softmax_is_trained_like_its_logits(without_search):
    model = network()
    lower, upper = network().layers[-2:]
    softmax = keras.Sequential([keras.Input(SHAPE), keras.layers.Flatten(), lower, upper, keras.layers.Softmax()])
    records = [fit(each) for each in (model, softmax)]
    np.testing.assert_allclose(records[0].losses, records[1].losses, atol=1e-4)
    for weight, other in zip(model.get_weights(), softmax.get_weights(), strict=True):
        np.testing.assert_allclose(weight, other, atol=1e-3)  # probabilities are rounded before their logarithm is taken


@pytest.mark.parametrize(
    ("size", "replaced", "tried"), [(2, 0.5, 1), (40, 1.0, 40)], ids=["smaller than a batch", "more than a batch"]
)
def test_pools_may_be_smaller_or_larger_than_a_batch(size, replaced, tried, without_search):
    record = fit(network(), settings(2, pools=(LayerPool(size=size, replaced=replaced, share=0.5),)))
    assert record.rounds[1].num_tried == {IMAGES: tried} and np.isfinite(record.losses).all()
    images = examples(64)[0]
    attacked = np.concatenate([pictures for pictures, *_ in without_search])
    np.testing.assert_array_equal(attacked[:tried], images[:tried])


def test_failed_attacks_give_no_distortion_and_zero_pool_loss(monkeypatch):
    def fail(classifier, images, **options):
        found = attack_without_search(classifier, images, **options)
        return found._replace(succeeded=tf.zeros_like(found.succeeded), distortion=float("nan") * found.distortion)

    monkeypatch.setattr(adversarial_pool, "minimize_distortion", fail)
    last = fit(network(), settings(2)).rounds[-1]
    assert set(last.least_distortions.values()) == {None} and set(last.pool_losses.values()) == {0.0}
    assert set(last.num_found.values()) == {0}


def test_batch_size_not_divisible_by_the_replicas_is_refused(two_replicas):
    odd = dataclasses.replace(settings(), minibatches=MinibatchTraining(num_epochs=1, batch_size=15))
    with (
        two_replicas.scope(),
        pytest.raises(ValueError, match="batch_size must be a multiple of the number of replicas, 2; received 15"),
    ):
        fit(network(), odd)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rounds_per_epoch": 0}, "rounds_per_epoch must be positive; received 0."),
        ({"attack_batch_size": 0}, "attack_batch_size must be positive; received 0."),
        ({"pools": ()}, "pools must name at least one layer, and each only once; received \\[\\]."),
        ({"pools": (POOLS[0], POOLS[0])}, "and each only once; received \\['hidden1', 'hidden1'\\]."),
        (
            {"pools": (LayerPool(share=0.5), LayerPool(layer="hidden1", share=0.6))},
            "must sum to less than 1, so that minibatches include clean images; received \\[0.5, 0.6\\], whose sum is 1.1.",
        ),
        ({"pools": (LayerPool(share=1.0),)}, "must sum to less than 1"),
    ],
)
def test_invalid_settings_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        AdversarialTraining(**options)


def test_fewer_batches_than_rounds_are_refused():
    with pytest.raises(
        ValueError, match="steps_per_epoch must be at least rounds_per_epoch, 5; received 4. Lower rounds_per_epoch or the"
    ):
        fit(network(), settings(1, 5))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda images, labels: (images, np.eye(2)[labels]), ValueError, "as of one-hot rows. Pass labels.argmax"),
        (lambda images, labels: (images, labels.astype(float)), TypeError, "labels must be integers, the numbers of classes"),
        (lambda images, labels: (images, labels + 1), ValueError, "labels must lie in 0..1, the classes of the classifier"),
        (lambda images, labels: (images[:, :1], labels), ValueError, r"images must have the shape \[2, 2, 1\] that the model"),
        (lambda images, labels: (255.0 * images, labels), ValueError, "images must lie within bounds"),
        (lambda images, labels: ((255.0 * images).astype(np.uint8), labels), TypeError, "images must be floating point"),
    ],
    ids=["one-hot", "float", "range", "shape", "bounds", "bytes"],
)
def test_invalid_batches_raise_before_training(change, error, message):
    with pytest.raises(error, match=message):
        fit_adversarially(network(), endless(change(*examples(64)), 16), steps_per_epoch=STEPS, settings=settings())


@pytest.mark.parametrize(
    ("last", "message"),
    [
        ([keras.layers.Dense(2), keras.layers.Lambda(lambda x: keras.ops.exp(x - keras.ops.logsumexp(x, axis=1, keepdims=True)))],
         "must return logits or end in a softmax; received rows in .0, 1. that sum to 1, without a recognized softmax"),
        ([keras.layers.Dense(1, "sigmoid")], "one score for each of at least two classes"),
    ],
    ids=["softmax of its own", "one output"],
)  # fmt: skip
def test_model_without_a_known_loss_is_refused(last, message):
    hidden = keras.layers.Dense(4, "sigmoid", name="hidden1")
    model = keras.Sequential([keras.Input(SHAPE), keras.layers.Flatten(), hidden, *last])
    images, labels = examples(64)
    with pytest.raises(ValueError, match=message):
        fit_adversarially(model, endless((images, 0 * labels), 16), steps_per_epoch=STEPS, settings=settings())


def test_half_precision_models_are_trained(without_search):
    losses = []
    for policy in ("float32", "mixed_bfloat16"):
        hidden, last = keras.layers.Dense(4, "sigmoid", name="hidden1", dtype=policy), keras.layers.Dense(2, dtype=policy)
        model = keras.Sequential([keras.Input(SHAPE), keras.layers.Flatten(), hidden, last])
        model.set_weights(network().get_weights())
        losses.append(fit(model, settings(2)).losses)
    np.testing.assert_allclose(losses[1], losses[0], rtol=0.05)


def freezing(model, layer="hidden1"):
    def freeze(*_):
        model.get_layer(layer).trainable = False

    return freeze


def test_changing_trainable_between_rounds_raises(without_search):
    model = network()
    with pytest.raises(
        ValueError,
        match="trainable weights of the model .* must stay the same.*hidden1/kernel', .*each stage in a separate call",
    ):
        fit(model, on_round=freezing(model))


def test_changing_trainable_in_the_last_round_keeps_all_weights(without_search):
    models = network(), network()
    fit(models[0], settings(1))
    fit(models[1], settings(1), on_round=freezing(models[1]))
    for one, other in zip(*(model.get_weights() for model in models), strict=True):
        np.testing.assert_array_equal(one, other)


def test_checkpoint_with_other_trainable_weights_is_refused(without_search, tmp_path):
    path, model = tmp_path / "checkpoint.npz", network()
    fit(model, checkpoint=path)
    model.get_layer("hidden1").trainable = False
    with pytest.raises(ValueError, match="received one of a training with other settings"):
        fit(model, settings(pools=POOLS), checkpoint=path)


def test_invalid_label_in_a_later_batch_raises(without_search):
    images, labels = examples(64)
    labels[40] = 2
    with pytest.raises(
        ValueError, match="^labels must lie in 0..1, .* received values from 0 to 2 in a batch. Correct them, or"
    ):
        fit_adversarially(network(), endless((images, labels), 16), steps_per_epoch=STEPS, settings=settings())
