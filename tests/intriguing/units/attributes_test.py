"""Tests of attributes from classes and tables, and of the errors for invalid tables."""

import numpy as np
import pytest

from intriguing.units.attributes import attributes_from_table, attributes_of_classes, attributes_of_kinds

TABLE = {
    "a": {"loop": "1", "stroke": "thin"},
    "b": {"loop": "0", "stroke": "thick"},
    "c": {"loop": "1", "stroke": "thin"},
    "unasked": {"loop": "", "stroke": "x"},
}


def test_each_class_is_a_group_with_one_attribute():
    attributes = attributes_of_classes(np.array([2, 0, 2]), ["zero", "one", "two"])
    assert attributes.names == ("zero", "one", "two")
    np.testing.assert_array_equal(attributes.group_attributes[attributes.groups], [[0, 0, 1], [1, 0, 0], [0, 0, 1]])


@pytest.mark.parametrize("labels", [[0, 3], [-1, 2]])
def test_label_outside_the_classes_is_refused(labels):
    with pytest.raises(ValueError, match=r"labels must lie in \[0, 3\), the number of classes; received"):
        attributes_of_classes(np.array(labels), ["zero", "one", "two"])


def test_class_belongs_to_the_first_matching_kind():
    kinds = {"fish": [(0, 1), (8, 9)], "other animal": [(0, 9)], "thing": [(10, 10)]}
    attributes = attributes_of_kinds(np.array([9, 2, 10, 1]), kinds)
    assert attributes.names == ("fish", "other animal", "thing")
    np.testing.assert_array_equal(attributes.groups, [0, 1, 2, 0])
    np.testing.assert_array_equal(attributes.group_attributes, np.eye(3))


def test_class_without_a_kind_is_named():
    with pytest.raises(
        ValueError, match="every class must belong to a kind; received 7, in none of fish, bird. Add a range for it."
    ):
        attributes_of_kinds(np.array([1, 7]), {"fish": [(0, 1)], "bird": [(2, 6)]})


def test_table_rows_are_matched_by_id_in_any_order():
    attributes = attributes_from_table(["c", "b", "a"], TABLE)
    assert attributes.names == ("loop", "stroke=thick", "stroke=thin")
    np.testing.assert_array_equal(attributes.group_attributes[attributes.groups], [[1, 0, 1], [0, 1, 0], [1, 0, 1]])
    assert len(attributes.group_attributes) == 2, "equal rows are one group"


def test_missing_ids_are_counted_and_named():
    with pytest.raises(ValueError, match="2 of 3 are missing, such as 'x'. Add them, or choose another subset"):
        attributes_from_table(["a", "x", "y"], TABLE)


def test_an_empty_entry_is_refused():
    table = {**TABLE, "d": {"loop": "1"}}
    with pytest.raises(
        ValueError, match="column 'stroke' must have an entry for every example; 1 of 2 are missing, such as 'd'. Add entries"
    ):
        attributes_from_table(["a", "d"], table)


def test_a_table_without_a_column_is_refused():
    with pytest.raises(ValueError, match="received only ids"):
        attributes_from_table(["a"], {"a": {}})


def test_too_many_combinations_are_refused_before_allocation():
    table = {str(number): {"serial": f"number {number}"} for number in range(600)}
    with pytest.raises(ValueError, match="combinations of attributes must be at most 512; received 600. Pass fewer columns"):
        attributes_from_table(list(table), table)


@pytest.mark.parametrize("form", [lambda x: np.eye(3)[x], lambda x: x[:, np.newaxis], lambda x: x.astype(np.uint8)])
def test_classes_may_be_one_hot_rows_a_column_or_bytes(form):
    labels = np.array([2, 0, 1, 1])
    np.testing.assert_array_equal(attributes_of_classes(form(labels), ["a", "b", "c"]).groups, labels)
    np.testing.assert_array_equal(attributes_of_kinds(form(labels), {"x": [(0, 1)], "y": [(2, 2)]}).groups, [1, 0, 0, 0])


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        ([0.5, 1.0], TypeError, "labels must be integers; received float64. Pass labels.astype"),
        ([[0.5, 0.5, 0.0]], ValueError, "labels must be one integer for each image, or one-hot rows of length 3; received"),
        (["cat", "dog"], TypeError, "labels must be integers; received <U3"),
    ],
)
def test_invalid_labels_are_refused(labels, error, message):
    with pytest.raises(error, match=message):
        attributes_of_classes(np.array(labels), ["a", "b", "c"])
