"""A folder of images is read like a TFDS data set, and errors name the invalid file."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from intriguing.data import (
    DatasetCard,
    ImageResizing,
    batches,
    check_disjoint,
    content_of,
    dataset_card,
    disjoint_halves,
    is_folder,
    load_examples,
    load_ids,
    load_labels,
    num_examples,
    num_shared_examples,
    sample_examples,
)
from intriguing.data.image_folder import ImageFolder
from intriguing.pixels import PixelBox
from tests.intriguing.data.picture_folders import (
    FILES,
    LABELS,
    bmp_with_a_palette,
    gray_of,
    truncate,
    write_picture,
    write_pictures,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_pictures(tmp_path / "pictures")


@pytest.fixture
def card(folder: Path) -> DatasetCard:
    return dataset_card(str(folder), image_size=(2, 2))


def _names(card: DatasetCard, subset: str) -> list[str]:
    return [example_id.decode() for example_id in load_ids(card, subset)]


def _grays(images: tf.Tensor) -> list[int]:
    return np.rint(np.asarray(images)[:, 0, 0, 0] * 255).astype(int).tolist()


def test_a_card_describes_a_folder(card: DatasetCard, folder: Path) -> None:
    assert (card.name, card.folder, card.data_dir) == ("pictures", str(folder.resolve()), None)
    assert (card.image_shape, card.num_classes, card.class_names) == ((2, 2, 3), 3, ("ant", "cat", "dog"))
    assert card.split_sizes == {"train": 5, "validation": 4}
    assert (card.pixel_box, card.resizing) == (PixelBox(0.0, 1.0), ImageResizing(height=2, width=2))
    assert {card: 1}[dataset_card(str(folder), image_size=(2, 2))] == 1


@pytest.mark.parametrize("format_", ["jpg", "jpeg", "png", "PNG", "gif", "bmp"])
def test_formats_keep_their_colors_and_animations_use_the_first_frame(card: DatasetCard, format_: str) -> None:
    examples = load_examples(card, "all")
    found = [(name.decode(), gray) for name, gray in zip(examples.ids.numpy(), _grays(examples.images))]
    of_format = [(name, gray) for name, gray in found if name.endswith(f".{format_}")]
    assert of_format and of_format == [(name, gray_of(name)) for name, _ in of_format]
    assert sorted(name for name, _ in found) == sorted(FILES), "and nothing that begins with a dot"


def test_slices_follow_list_order_and_keep_image_label_and_id_together(card: DatasetCard) -> None:
    train, validation = _names(card, "train"), _names(card, "validation")
    for subset, expected in {
        "validation[:3]": validation[:3],
        "validation[50%:]+train": validation[2:] + train,
        "train[-2:]": train[-2:],
        "train[1:2]+train[:1]": [train[1], train[0]],
        "all": train + validation,
    }.items():
        examples = load_examples(card, subset)
        assert [name.decode() for name in examples.ids.numpy()] == expected == _names(card, subset)
        assert _grays(examples.images) == [gray_of(name) for name in expected]
        assert examples.labels.numpy().tolist() == [LABELS[name.split("/")[1]] for name in expected]
        assert load_labels(card, subset).tolist() == examples.labels.numpy().tolist()
        assert num_examples(card, subset) == len(expected)
    assert (examples.images.dtype, examples.labels.dtype, examples.ids.dtype) == (tf.float32, tf.int32, tf.string)
    assert load_labels(card, "all").dtype == np.int32


def test_builder_returns_the_examples_of_a_tfds_builder(card: DatasetCard, folder: Path) -> None:
    builder = card.builder()
    served = list(builder.as_dataset(split="validation[1:]+train[:1]").as_numpy_iterator())
    names = _names(card, "validation[1:]+train[:1]")
    assert [example["image/filename"].decode() for example in served] == [str(folder.resolve() / name) for name in names]
    assert [example["image"].shape for example in served] == [(*FILES[name], 3) for name in names]
    read_instruction = tfds.core.ReadInstruction("train", from_=1, to=3, unit="abs")
    labels = [label for _, label in builder.as_dataset(split=read_instruction, as_supervised=True).as_numpy_iterator()]
    assert labels == load_labels(card, "train[1:3]").tolist()
    with pytest.raises(ValueError, match="does not support decoders and shuffle_files. Shuffle the"):
        builder.as_dataset(split="train", shuffle_files=True)


def test_folder_is_read_without_preparation_or_writing(card: DatasetCard, folder: Path) -> None:
    before = sorted(folder.rglob("*"))
    card.builder().download_and_prepare()
    load_examples(card, "all")
    assert sorted(folder.rglob("*")) == before


def test_order_does_not_depend_on_the_path_of_the_folder(folder: Path, card: DatasetCard, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "elsewhere" / "copy")
    copy = dataset_card(str(tmp_path / "elsewhere" / "copy"), image_size=(2, 2))
    assert _names(copy, "all") == _names(card, "all")


def test_a_slice_of_a_folder_mixes_its_classes(tmp_path: Path) -> None:
    for number in range(40):
        write_picture(tmp_path / "train" / f"class{number // 20}" / f"{number}.png", np.zeros((1, 1, 3), np.uint8))
    labels = load_labels(dataset_card(str(tmp_path), image_size=(1, 1)), "train[:20]")
    assert 4 <= labels.sum() <= 16


def test_halves_of_a_folder_share_no_example(card: DatasetCard) -> None:
    first, second = disjoint_halves(card, "train")
    assert (first, second) == ("train[:2]", "train[2:]")
    assert sorted(_names(card, first) + _names(card, second)) == sorted(_names(card, "train"))
    assert num_shared_examples(card, "train[:3]", "train[2:]") == 1
    with pytest.raises(ValueError, match="of pictures share 1 examples"):
        check_disjoint(card, "train[:3]", "train[2:]")


def test_empty_class_folder_keeps_its_number(card: DatasetCard, folder: Path) -> None:
    (folder / "train" / "bee").mkdir()
    grown = dataset_card(str(folder), image_size=(2, 2))
    assert grown.class_names == ("ant", "bee", "cat", "dog")
    labels = dict(zip(_names(grown, "all"), load_labels(grown, "all")))
    assert (labels["train/cat/a.png"], labels["train/dog/a.png"]) == (2, 3)


def test_jpeg_decoding_agrees_with_other_programs(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (48, 48, 3), dtype=np.uint8)
    content = write_picture(tmp_path / "train/a/a.jpg", pixels).read_bytes()
    found = load_examples(dataset_card(str(tmp_path), image_size=(48, 48)), "train").images[0] * 255.0
    accurate = tf.io.decode_jpeg(content, dct_method="INTEGER_ACCURATE")
    assert np.any(accurate != tf.io.decode_jpeg(content, dct_method="INTEGER_FAST")), "the methods differ on this picture"
    np.testing.assert_array_equal(np.rint(found), accurate)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_gray_and_transparent_images_become_rgb(tmp_path: Path, channels: int) -> None:
    write_picture(tmp_path / "train/a/a.png", np.full((3, 3, channels), 77, np.uint8))
    examples = load_examples(dataset_card(str(tmp_path), image_size=(3, 3)), "train")
    np.testing.assert_array_equal(np.rint(examples.images * 255.0), np.full((1, 3, 3, 3), 77))


def test_photographs_are_cropped_exactly(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (256, 300, 3), dtype=np.uint8)
    write_picture(tmp_path / "train/a/a.png", pixels)
    card = dataset_card(str(tmp_path), image_size=(227, 227), shorter_side=256)
    assert card.image_shape == (227, 227, 3)
    np.testing.assert_array_equal(np.rint(load_examples(card, "train").images[0] * 255.0), pixels[14:241, 36:263])


def test_batches_of_a_folder_have_fixed_shapes(card: DatasetCard) -> None:
    dataset = batches(card, "all", batch_size=4)
    assert dataset.element_spec == (tf.TensorSpec([4, 2, 2, 3], tf.float32), tf.TensorSpec([4], tf.int32))
    served = list(dataset)
    grays = [gray for images, _ in served for gray in _grays(images)]
    assert grays == [*(gray_of(name) for name in _names(card, "all")), 0, 0, 0]
    assert served[-1][1].numpy()[1:].tolist() == [-1, -1, -1]
    images, _ = next(iter(batches(card, "all", batch_size=9, shuffle_seed=0)))
    assert sorted(_grays(images)) == sorted(map(gray_of, FILES))


def test_a_sample_keeps_image_label_and_id_together(card: DatasetCard) -> None:
    sample = sample_examples(card, "all", num_images=9, seed=1)
    names = [name.decode() for name in sample.ids.numpy()]
    assert sorted(names) == sorted(FILES) and names != _names(card, "all")
    assert _grays(sample.images) == [gray_of(name) for name in names]
    assert sample.labels.numpy().tolist() == [LABELS[name.split("/")[1]] for name in names]


def test_only_drawn_images_are_decoded_and_none_for_labels_and_ids(card: DatasetCard, folder: Path) -> None:
    drawn = sample_examples(card, "all", num_images=2, seed=0).ids.numpy().tolist()
    for name in FILES:
        if name.encode() not in drawn:
            (folder / name).write_bytes(b"no picture any more")
    assert sample_examples(card, "all", num_images=2, seed=0).ids.numpy().tolist() == drawn
    assert len(load_labels(card, "all")) == len(load_ids(card, "all")) == 9
    with pytest.raises(ValueError, match="cannot be read"):
        sample_examples(card, "all", num_images=9, seed=0)


def test_a_sample_larger_than_a_folder_is_refused(card: DatasetCard) -> None:
    with pytest.raises(ValueError, match="num_images must be from 1 to 4.*received 5"):
        sample_examples(card, "validation", num_images=5, seed=0)


READERS: dict[str, Callable[[DatasetCard, str], object]] = {
    "examples": load_examples,
    "labels": load_labels,
    "ids": load_ids,
    "sample": lambda card, subset: sample_examples(card, subset, num_images=1, seed=0),
    "batches": lambda card, subset: batches(card, subset, batch_size=1),
}


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
def test_unknown_split_error_lists_the_known_splits(card: DatasetCard, read) -> None:
    with pytest.raises(ValueError, match="unknown split of pictures 'test'.*Known: train, validation, all"):
        read(card, "test[:1]")
    with pytest.raises(ValueError, match=r"'train\[:9\]' of pictures cannot be read"):
        read(card, "train[:9]")


@pytest.mark.parametrize("name", ["validation/ant/a.jpg", "train/cat/a.png", "train/dog/c.gif", "train/dog/d.bmp"])
def test_truncated_image_is_named_with_the_reason(card: DatasetCard, folder: Path, name: str) -> None:
    truncate(folder / name)
    reason = {".jpg": "jpeg::Uncompress failed", ".png": "Invalid PNG", ".gif": "Invalid GIF", ".bmp": "Input size"}
    with pytest.raises(ValueError, match=f"the image '.*{name}' cannot be read: {reason[name[-4:]]}.*Replace it") as caught:
        load_examples(card, "all")
    assert "function_node" not in str(caught.value) and "[Op:" not in str(caught.value)


def test_an_empty_file_is_named(card: DatasetCard, folder: Path) -> None:
    (folder / "train/cat/a.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"train/cat/a\.png' cannot be read: "):
        load_examples(card, "train")


def test_bmp_with_a_palette_is_refused(card: DatasetCard, folder: Path) -> None:
    (folder / "train/dog/d.bmp").write_bytes(bmp_with_a_palette())
    with pytest.raises(ValueError, match=r"d\.bmp' cannot be read: a BMP file with a color table\. .*save it as PNG"):
        load_examples(card, "train")


@pytest.mark.parametrize(
    ("stray", "message"),
    [
        ("notes.txt", "notes.txt' is a file, where only folders are allowed; expected folders split/class/image"),
        ("train/a.png", "train/a.png' is a file, where only folders are allowed; .*Remove it"),
        ("train/cat/notes.txt", r"notes.txt' is not an image file \(.jpg, .jpeg, .png, .bmp, .gif\); .*Remove it"),
        ("train/cat/more/a.png", "train/cat/more' is not an image file"),
        ("train/cat/folder.png/a.png", "train/cat/folder.png' is not an image file"),
        (
            "my photos/cat/a.png",
            "letters, digits, '_' and '-', and must not be 'all'; received '.*my photos'. Rename that folder",
        ),
        ("all/cat/a.png", "must not be 'all'; received '.*all'. Rename"),
    ],
)
def test_misplaced_files_are_named(folder: Path, card: DatasetCard, stray: str, message: str) -> None:
    (folder / stray).parent.mkdir(parents=True, exist_ok=True)
    (folder / stray).touch()
    for call in (
        lambda: dataset_card(str(folder), image_size=(2, 2)),
        lambda: load_ids(card, "train"),
        lambda: content_of(folder),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_folders_without_images_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no folder '.*nowhere'; expected folders split/class/image.*Check"):
        dataset_card(str(tmp_path / "nowhere"), image_size=(2, 2))
    with pytest.raises(ValueError, match="the folder '.*' contains no split; expected folders split/class/image"):
        dataset_card(str(tmp_path), image_size=(2, 2))
    (tmp_path / "train").mkdir()
    with pytest.raises(ValueError, match="the split '.*train' contains no image"):
        dataset_card(str(tmp_path), image_size=(2, 2))
    (tmp_path / "train" / "cat").mkdir()
    with pytest.raises(ValueError, match="the split '.*train' contains no image"):
        dataset_card(str(tmp_path), image_size=(2, 2))


def test_folder_requires_image_size(folder: Path) -> None:
    with pytest.raises(
        ValueError,
        match="image_size is required for a folder such as '.*pictures', whose images may have different sizes. Pass image_size",
    ):
        dataset_card(str(folder))


def test_changed_folder_requires_a_new_card(card: DatasetCard, folder: Path) -> None:
    (folder / "train/cat/a.png").unlink()
    with pytest.raises(
        ValueError, match="must contain the same images as when its card was created: .*'train': 5.*'train': 4.*again"
    ):
        load_ids(card, "train")


def test_changed_image_is_read_again(card: DatasetCard, folder: Path) -> None:
    assert 200 not in _grays(load_examples(card, "train").images)
    write_picture(folder / "train/cat/a.png", np.full((2, 2, 3), 200, np.uint8))
    os.utime(folder / "train/cat/a.png", ns=(1, 1))  # some file systems have coarse time stamps
    assert 200 in _grays(load_examples(card, "train").images)


def test_content_changes_exactly_with_the_files(folder: Path) -> None:
    digests = [content_of(folder), content_of(folder)]
    os.utime(folder / "train/cat/a.png", ns=(1, 1))
    digests.append(content_of(folder))
    (folder / "train/cat/a.png").rename(folder / "train/cat/c.png")
    digests.append(content_of(folder))
    with (folder / "train/cat/c.png").open("ab") as file:
        file.write(b"\0")
    os.utime(folder / "train/cat/c.png", ns=(1, 1))
    digests.append(content_of(folder))
    (folder / "train" / "bee").mkdir()
    digests.append(content_of(folder))
    assert digests[0] == digests[1] and len(set(digests)) == 5


def test_data_set_names_that_are_paths_or_unknown_to_tfds_are_folders(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    monkeypatch.setenv("HOME", str(folder.parent))
    for name in (str(folder), "./pictures", "~/pictures", "pictures", "pictures/train", "./nowhere", "./mnist"):
        assert is_folder(name)
    (folder.parent / "mnist").mkdir()
    for name in ("mnist", "nowhere", "nowhere/pictures", "imagenet_resized/8x8", ""):
        assert not is_folder(name)
    for name in ("~/pictures", "pictures", "./pictures/../pictures"):
        assert dataset_card(name, image_size=(2, 2)).folder == str(folder.resolve())
    with pytest.raises(ValueError, match="unknown data set 'nowhere/pictures'.*There is no folder at that path"):
        dataset_card("nowhere/pictures", image_size=(2, 2))


def test_imagenet_sample_is_a_folder_with_a_thousand_classes() -> None:
    sample = os.environ.get("INTRIGUING_IMAGENET_SAMPLE_DIR")
    if not sample:
        pytest.skip("INTRIGUING_IMAGENET_SAMPLE_DIR is unset; point it at the folder above validation/<wnid>/*.jpg")
    card = dataset_card(sample, image_size=(224, 224), shorter_side=256)
    assert (card.num_classes, card.split_sizes["validation"], card.class_names[0]) == (1000, 1000, "n01440764")
    examples = load_examples(card, "validation[:8]")
    assert examples.images.shape == (8, 224, 224, 3)
    path = Path(sample) / examples.ids.numpy()[3].decode()
    photograph = tf.io.decode_jpeg(tf.io.read_file(str(path)), dct_method="INTEGER_ACCURATE")
    np.testing.assert_array_equal(np.rint(examples.images[3] * 255.0), photograph[16:240, 16:240])
    assert isinstance(card.builder(), ImageFolder)
