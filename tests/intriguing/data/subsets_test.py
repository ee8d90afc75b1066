"""Disjoint subsets share no example, which is checked by the example ids of TFDS."""

from __future__ import annotations

import itertools
import re

import pytest
import tensorflow_datasets as tfds

from intriguing.data import (
    DatasetCard,
    check_disjoint,
    disjoint_halves,
    disjoint_subsets,
    load_examples,
    num_examples,
    num_shared_examples,
)


def _card(**split_sizes: int) -> DatasetCard:
    return DatasetCard(name="mnist", image_shape=(28, 28, 1), num_classes=10, class_names=(), split_sizes=split_sizes)


MNIST = _card(train=60000, test=10000)


def _tfds_ids(card: DatasetCard, subset: str) -> set[bytes]:
    dataset = card.builder().as_dataset(split=subset, read_config=tfds.ReadConfig(add_tfds_id=True))
    return {example["tfds_id"] for example in dataset.as_numpy_iterator()}


def test_halves_are_written_in_absolute_indices() -> None:
    assert disjoint_halves(MNIST, "train") == ("train[:30000]", "train[30000:]")


def test_halves_of_a_slice_stay_inside_the_slice() -> None:
    assert disjoint_halves(MNIST, "train[10%:20%]") == ("train[6000:9000]", "train[9000:12000]")


def test_halves_are_disjoint_and_complete(tiny: DatasetCard) -> None:
    first, second = (_tfds_ids(tiny, half) for half in disjoint_halves(tiny, "train"))
    assert not first & second
    assert first | second == _tfds_ids(tiny, "train")


@pytest.mark.parametrize("num_subsets", [1, 2, 5, 13])
def test_subsets_share_no_example_and_differ_by_at_most_one(tiny: DatasetCard, num_subsets: int) -> None:
    subsets = disjoint_subsets(tiny, "train", num_subsets)
    ids = [_tfds_ids(tiny, subset) for subset in subsets]
    assert all(not one & other for one, other in itertools.combinations(ids, 2))
    assert set().union(*ids) == _tfds_ids(tiny, "train")
    assert max(map(len, ids)) - min(map(len, ids)) <= 1
    check_disjoint(tiny, *subsets)


@pytest.mark.parametrize("subset", ["train", "train[3:7]", "train[:50%]", "train[-2:]", "validation+train[:1]", "all"])
def test_counts_the_examples_that_tfds_reads(tiny: DatasetCard, subset: str) -> None:
    assert num_examples(tiny, subset) == len(_tfds_ids(tiny, subset)) == len(load_examples(tiny, subset).ids)


@pytest.mark.parametrize("first", ["train[:5]", "train[4:9]+validation[:2]", "train[:30%]+train[60%:]", "validation"])
@pytest.mark.parametrize("second", ["train[2:6]+train[5:8]", "validation[1:]", "all"])
def test_counts_shared_examples_as_the_ids_do(tiny: DatasetCard, first: str, second: str) -> None:
    assert num_shared_examples(tiny, first, second) == len(_tfds_ids(tiny, first) & _tfds_ids(tiny, second))


def test_overlapping_subsets_error_says_what_to_do() -> None:
    overlap = "subsets 'train[:50%]' and 'train[40%:]' of mnist share 6000 examples; expected none."
    message = f"{overlap} Use disjoint_halves(card, 'train')."
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        check_disjoint(MNIST, "train[:50%]", "train[40%:]")


def test_overlap_error_of_three_subsets_suggests_disjoint_subsets() -> None:
    with pytest.raises(ValueError, match=r"share 1000 examples; .* Use disjoint_subsets\(card, 'test', 3\)\."):
        check_disjoint(MNIST, "train", "test", "test[:1000]")


def test_unknown_split_error_names_the_nearest_split() -> None:
    with pytest.raises(ValueError, match=r"unknown split of mnist 'trian'\. Did you mean 'train'\? Known: train, test"):
        num_examples(MNIST, "trian[:10]")


@pytest.mark.parametrize("subset", ["", "train[5", "train[a:b]", "train[:150%]", "train[:70000]", "train+"])
def test_invalid_subset_expression_is_quoted(subset: str) -> None:
    with pytest.raises(
        ValueError, match=f"subset {re.escape(repr(subset))} of mnist cannot be read.*'train': 60000.*TFDS reports"
    ):
        num_examples(MNIST, subset)


@pytest.mark.parametrize("subset", ["train[5:5]", "train[50:10]", "train[:0%]", "test+train[:0]"])
def test_an_empty_subset_is_refused(subset: str) -> None:
    with pytest.raises(ValueError, match="must contain at least one example"):
        num_examples(MNIST, subset)


def test_slices_by_shard_are_refused() -> None:
    with pytest.raises(ValueError, match=r"'train\[:1shard\]' counts shards, which differ between machines"):
        num_examples(MNIST, "train[:1shard]")


@pytest.mark.parametrize("num_subsets", [0, -1, 14])
def test_zero_subsets_or_more_subsets_than_examples_are_refused(tiny: DatasetCard, num_subsets: int) -> None:
    with pytest.raises(ValueError, match=f"num_subsets must be from 1 to 13.*received {num_subsets}"):
        disjoint_subsets(tiny, "train", num_subsets)


def test_halves_of_a_sum_are_refused() -> None:
    with pytest.raises(ValueError, match="split must be one contiguous slice; received 'train\\+test'"):
        disjoint_halves(MNIST, "train+test")
