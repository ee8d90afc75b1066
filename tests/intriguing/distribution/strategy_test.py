"""Tests how strategies are chosen, the errors for missing devices, and how rows are divided among replicas."""

from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from intriguing.distribution.compilation import compile_for_loops
from intriguing.distribution.map_rows import num_slots, run_on_rows
from intriguing.distribution.strategy import strategy_for, writes_files


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"accelerator": "npu"}, "unknown accelerator 'npu'. Known: cpu, gpu, tpu."),
        (
            {"strategy": "mirorred"},
            "unknown strategy 'mirorred'. Known: auto, one_device, mirrored, multi_worker_mirrored, tpu.",
        ),
        ({"strategy": "tpu"}, "strategy 'tpu' does not run on accelerator 'cpu'. Use --accelerator=tpu --strategy=auto."),
        ({"accelerator": "tpu", "strategy": "mirrored"}, "strategy 'mirrored' does not run on accelerator 'tpu'."),
        ({"tpu": "local"}, r"a TPU name \('local'\) was given, but the accelerator is 'cpu'. Use --accelerator=tpu."),
    ],
)
def test_unknown_or_incompatible_names_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        strategy_for(**options)


def test_missing_gpu_error_lists_the_devices_and_says_what_to_do(monkeypatch):
    found = {"GPU": [], None: [SimpleNamespace(name="/physical_device:CPU:0")]}
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: found[kind])
    words = r"No gpu found: TensorFlow .* lists the devices \['/physical_device:CPU:0'\]. Use --accelerator=cpu, or install"
    with pytest.raises(RuntimeError, match=words):
        strategy_for("gpu")


@pytest.mark.parametrize(("given", "environment"), [("local", ""), (None, "somewhere")])
def test_missing_tpu_error_names_the_searched_address(monkeypatch, given, environment):
    def missing(tpu):
        raise ValueError(f"cannot resolve {tpu}")

    monkeypatch.setattr(tf.distribute.cluster_resolver, "TPUClusterResolver", missing)
    monkeypatch.setenv("TPU_NAME", environment)
    looked_for = given or environment
    words = (
        f"No TPU found: looked for '{looked_for}' .from --tpu, then TPU_NAME. with TensorFlow .*: cannot resolve {looked_for}"
    )
    with pytest.raises(RuntimeError, match=words):
        strategy_for("tpu", tpu=given)


def test_missing_local_tpu_error_says_what_to_do(monkeypatch):
    monkeypatch.delenv("TPU_NAME", raising=False)
    words = "No TPU found: looked for 'local' .* On a TPU machine or in Colab pass --tpu=local"
    with pytest.raises(RuntimeError, match=words):
        strategy_for("tpu", tpu="local")


def test_multi_worker_strategy_requires_tf_config(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    with pytest.raises(
        RuntimeError, match='needs the environment variable TF_CONFIG, which is not set. .* for example {"cluster"'
    ):
        strategy_for(strategy="multi_worker_mirrored")


def test_auto_uses_all_devices_and_one_device_uses_one():
    assert strategy_for().num_replicas_in_sync == 2  # the two logical CPUs of the tests
    assert strategy_for(strategy="mirrored").num_replicas_in_sync == 2
    assert strategy_for(strategy="one_device").num_replicas_in_sync == 1


def test_repeated_calls_return_the_same_mirrored_strategy():
    first, second = strategy_for(strategy="mirrored"), strategy_for("cpu")
    assert first is second

    @tf.function
    def gathered():
        return first.gather(first.run(lambda: tf.constant([1, 2])), axis=0)

    @tf.function
    def reduced():
        return second.reduce("SUM", second.run(lambda: tf.constant([1.0, 2.0])), axis=None)

    assert gathered().numpy().tolist() == [1, 2, 1, 2]
    assert reduced().numpy().tolist() == [2.0, 4.0]


@pytest.mark.parametrize(
    ("jobs", "task", "writes"),
    [
        ({}, ("worker", 0), True),
        ({"worker": ["a:1", "b:1"]}, ("worker", 0), True),
        ({"worker": ["a:1", "b:1"]}, ("worker", 1), False),
        ({"chief": ["a:1"], "worker": ["b:1"]}, ("chief", 0), True),
        ({"chief": ["a:1"], "worker": ["b:1"]}, ("worker", 0), False),
    ],
)
def test_only_the_chief_writes_files(monkeypatch, jobs, task, writes):
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec(jobs), task_type=task[0], task_id=task[1]
    )
    monkeypatch.setattr(tf.distribute, "get_strategy", lambda: SimpleNamespace(cluster_resolver=resolver))
    assert writes_files() is writes


def test_single_machine_writes_files(two_replicas):
    assert writes_files()
    with two_replicas.scope():
        assert writes_files()


@tf.function(jit_compile=True, autograph=False)
def program(shared, rows):
    scaled = shared["scale"] * rows["numbers"]
    return {"scaled": scaled, "large": tf.reduce_sum(scaled, axis=1) > 10.0, "count": tf.cast(rows["count"], tf.int32) + 1}


@pytest.mark.parametrize("num_rows", [1, 2, 5, 8])
@pytest.mark.parametrize("num_replicas", [1, 2])
def test_results_are_in_order_and_without_padding(num_rows, num_replicas, two_replicas):
    strategy = two_replicas if num_replicas == 2 else tf.distribute.OneDeviceStrategy("CPU:0")
    rows = {"numbers": tf.reshape(tf.range(3.0 * num_rows), [num_rows, 3]), "count": tf.range(num_rows)}
    with strategy.scope():
        results = run_on_rows(program, {"scale": tf.constant(2.0)}, rows)
    expected = np.arange(3.0 * num_rows).reshape(num_rows, 3) * 2
    np.testing.assert_array_equal(results["scaled"], expected)
    np.testing.assert_array_equal(results["count"], np.arange(num_rows) + 1)
    assert results["large"].dtype == tf.bool
    np.testing.assert_array_equal(results["large"], expected.sum(axis=1) > 10)


def test_program_is_traced_once_for_rows_of_equal_shape(two_replicas):
    traces = []

    @tf.function(autograph=False)
    def counted(shared, rows):
        traces.append(rows.shape)
        return rows + shared

    with two_replicas.scope():
        for addend in (1.0, 2.0, 3.0):
            np.testing.assert_array_equal(run_on_rows(counted, tf.constant(addend), tf.zeros([4])), np.full(4, addend))
    assert len(traces) <= 2  # one for each device


@pytest.mark.parametrize("num_replicas", [1, 2])
def test_loops_with_convolutions_are_not_compiled_on_a_cpu(num_replicas, two_replicas):
    strategy = two_replicas if num_replicas == 2 else tf.distribute.get_strategy()
    with strategy.scope():
        assert compile_for_loops(True) is False
        assert compile_for_loops(False) is True


def test_all_loops_are_compiled_on_accelerators(monkeypatch):
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: [SimpleNamespace(name=f"/device:{kind}:0")])
    assert compile_for_loops(True) is True
    assert compile_for_loops(False) is True


def test_accelerators_have_more_slots_than_a_cpu(monkeypatch):
    on_this_cpu = num_slots()
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: [SimpleNamespace(name=f"/device:{kind}:0")])
    assert 1 <= on_this_cpu < num_slots()
