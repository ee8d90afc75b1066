"""Wrong command-line arguments raise a one-line error that says what was expected, without a traceback."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.launch.conftest import Finished, Script

REPOSITORY = Path(__file__).resolve().parents[2]
SCRIPTS = ("reproduce", "train", "train_adversarially", "attack", "measure_transfer")
REQUIRED = {
    "reproduce": [],
    "train": ["--model=FC10(1)"],
    "train_adversarially": ["--model=FC10(1)"],
    "attack": ["--trained_model=nowhere"],
    "measure_transfer": ["--distorted_images=nowhere", "--trained_models=nowhere"],
}


def _refused_in_one_line(finished: Finished) -> str:
    assert finished.code == 1
    assert finished.out == ""
    assert "Traceback" not in finished.err
    lines = [line for line in finished.err.splitlines() if "..." not in line]  # progress of steps
    assert len(lines) == 1, finished.err
    return lines[0]


@pytest.mark.parametrize("name", SCRIPTS)
def test_help_lists_the_flags_of_every_script(script: Script, name: str) -> None:
    shown = script(name, "--help").out
    for flag in ("--accelerator: <cpu|gpu|tpu>", "--strategy: <auto|", "--tpu:", "--seed:", "--workdir:"):
        assert flag in shown
    reads_data = name != "measure_transfer"  # measure_transfer reads images from the given folders
    assert ("--tfds_data_dir:" in shown) == ("--tfds_manual_dir:" in shown) == reads_data
    assert ("--dataset:" in shown) == (name in ("train", "train_adversarially", "attack"))
    for flag in REQUIRED[name]:
        assert f"{flag.split('=')[0]}:" in shown
    assert f"python -m launch.{name}" in shown


@pytest.mark.parametrize("name", SCRIPTS)
def test_stray_arguments_are_refused(script: Script, name: str) -> None:
    finished = script(name, *REQUIRED[name], "seed=1", "mnist")
    assert finished.code != 0
    assert (
        "stray arguments 'seed=1 mnist'; every setting is a flag, such as --seed=1. Try --help." in finished.out + finished.err
    )
    assert "Traceback" not in finished.err


@pytest.mark.parametrize("name", [name for name in SCRIPTS if REQUIRED[name]])
def test_missing_required_flag_is_named(script: Script, name: str) -> None:
    finished = script(name)
    assert finished.code != 0
    assert REQUIRED[name][0].split("=")[0].removeprefix("--") in finished.err
    assert "must have a value other than None" in finished.err
    assert "Traceback" not in finished.err


@pytest.mark.parametrize("argument", ["--accelerator=qpu", "--strategy=parallel", "--seed=-1", "--seed=one", "--no_such_flag"])
def test_invalid_flag_values_are_refused(script: Script, argument: str) -> None:
    finished = script("reproduce", argument)
    assert finished.code != 0
    assert argument.split("=")[0].lstrip("-") in finished.err
    assert "Traceback" not in finished.err


def test_unknown_recipe_error_names_the_nearest_recipe(script: Script) -> None:
    line = _refused_in_one_line(script("reproduce", "--recipe=minst_5k"))
    assert line.startswith("ValueError: unknown recipe 'minst_5k'. Did you mean 'mnist_5k'? Known: ")


def test_unknown_recipe_ends_a_process_with_a_one_line_error_and_exit_code() -> None:
    command = [sys.executable, "-m", "launch.reproduce", "--recipe=minst_5k"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=120)
    # TensorFlow writes to stderr at every log level.
    ours = [line for line in done.stderr.splitlines() if not line.startswith(("WARNING: All log messages", "I0000"))]
    assert _refused_in_one_line(Finished(done.returncode, done.stdout, "\n".join(ours))).startswith(
        "ValueError: unknown recipe 'minst_5k'"
    )


def test_unknown_model_error_names_the_nearest_model_before_any_step(script: Script, tmp_path: Path) -> None:
    line = _refused_in_one_line(script("train", "--model=FC100-10-100", f"--workdir={tmp_path / 'runs'}"))
    assert line.startswith("ValueError: unknown model 'FC100-10-100'. Did you mean 'FC100-100-10'? Known: FC10(1e-4), ")
    assert "This script trains networks of the zoo. " in line
    assert line.endswith(
        "save it with model.save('mine.keras'), and attack it with python -m launch.attack --model=mine.keras."
    )
    assert not (tmp_path / "runs").exists()


def test_unknown_data_set_error_names_the_nearest_data_set(script: Script, tmp_path: Path) -> None:
    finished = script(
        "train", "--model=FC10(1)", "--dataset=mnits", f"--workdir={tmp_path}", f"--tfds_data_dir={tmp_path / 'data'}"
    )
    assert _refused_in_one_line(finished) == "ValueError: unknown data set 'mnits'. Did you mean 'mnist'?"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("other", ["--model=AE400-10", "--full_batch"])
def test_spectral_penalty_without_minibatches_is_refused(script: Script, tmp_path: Path, other: str) -> None:
    finished = script("train", "--model=FC10(1)", "--spectral_penalty=0.1", other, f"--workdir={tmp_path / 'runs'}")
    line = _refused_in_one_line(finished)
    assert line == (
        "ValueError: --spectral_penalty is for training by minibatches; received 0.1 with --full_batch or an AE network. "
        "Leave it out."
    )
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--model=FC10(2)"], "ValueError: unknown model 'FC10(2)'. Did you mean 'FC10(1"),
        (["--layers=hiden1"], "ValueError: unknown layer 'hiden1'. Did you mean 'hidden1'? Known: images, pixels, hidden1, "),
        (
            ["--layers=images,hidden1", "--shares=0.1,0.2,0.3"],
            "ValueError: --shares must be one number, or one for each of the 2 layers; received '0.1,0.2,0.3'.",
        ),
        (
            ["--to_distortion=long"],
            "ValueError: --to_distortion must be one number, or one for each of the 1 layers; received 'long'.",
        ),
        (["--shares=1.5"], "ValueError: share must lie in (0, 1]; received 1.5."),
        (["--layers=images,hidden1", "--shares=0.5"], "ValueError: the shares of the pools must sum to less than 1, "),
        (["--replaced=0"], "ValueError: replaced must lie in (0, 1]; received 0.0."),
        (["--layers=images,images"], "ValueError: pools must name at least one layer, and each only once; "),
        (["--model=AE400-10"], "ValueError: AE400-10 learns its features without labels, so it cannot be trained on pools. "),
    ],
)
def test_invalid_pools_are_refused_before_any_step(script: Script, tmp_path: Path, flags: list[str], words: str) -> None:
    line = _refused_in_one_line(script("train_adversarially", "--model=FC100-100-10", *flags, f"--workdir={tmp_path / 'runs'}"))
    assert line.startswith(words)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("subset", "words"),
    [
        ("tran", "unknown split of mnist_5k 'tran'. Did you mean 'train'? Known: train, test, all."),
        ("train[:9000]", "subset 'train[:9000]' of mnist_5k cannot be read; expected an expression such as 'train[:100]'"),
        (
            "train[5:5]",
            "subset 'train[5:5]' of mnist_5k must contain at least one example; received an empty slice. Widen the slice.",
        ),
    ],
)
def test_invalid_subset_error_suggests_a_valid_subset(
    script: Script, tmp_path: Path, digits_dir: Path, subset: str, words: str
) -> None:
    finished = script(
        "train", "--model=FC10(1)", f"--subset={subset}", f"--workdir={tmp_path}", f"--tfds_data_dir={digits_dir}"
    )
    assert words in _refused_in_one_line(finished)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("tpu", [[], ["--tpu=local"]], ids=["unnamed", "local"])
def test_missing_tpu_error_says_what_was_searched(
    script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tpu: list[str]
) -> None:
    monkeypatch.delenv("TPU_NAME", raising=False)
    finished = script("reproduce", "--accelerator=tpu", *tpu, f"--workdir={tmp_path}")
    address = tpu[0].split("=")[1] if tpu else ""
    assert finished.code == 1
    assert finished.err.startswith(
        f"RuntimeError: No TPU found: looked for {address!r} (from --tpu, then TPU_NAME) with TensorFlow "
    )
    assert "elsewhere use --accelerator=cpu" in finished.err
    assert "Traceback" not in finished.err
    assert list(tmp_path.iterdir()) == []


def test_tpu_name_with_another_accelerator_is_refused(script: Script) -> None:
    line = _refused_in_one_line(script("reproduce", "--tpu=my-tpu"))
    assert line == "ValueError: a TPU name ('my-tpu') was given, but the accelerator is 'cpu'. Use --accelerator=tpu."


def test_missing_gpu_error_lists_the_available_devices(script: Script) -> None:
    finished = script("reproduce", "--accelerator=gpu", "--recipe=none")
    if "unknown recipe" in finished.err:
        pytest.skip("this machine has a GPU")
    assert "RuntimeError: No gpu found: TensorFlow" in _refused_in_one_line(finished)
    assert "CPU:0" in finished.err


def test_multi_worker_without_a_cluster_error_explains_tf_config(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TF_CONFIG", raising=False)
    line = _refused_in_one_line(script("reproduce", "--strategy=multi_worker_mirrored"))
    assert "multi_worker_mirrored needs the environment variable TF_CONFIG, which is not set" in line


def test_data_folder_that_cannot_be_created_raises(script: Script, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("precious")
    folder = tmp_path / "file" / "data"
    finished = script("train", "--model=FC10(1)", f"--tfds_data_dir={folder}", f"--workdir={tmp_path / 'runs'}")
    line = _refused_in_one_line(finished)
    assert f"cannot write to {folder}, where TFDS stores data sets: Not a directory. Create the folder, or pass another" in line


def test_replaced_training_is_logged(script: Script, tmp_path: Path, digits_dir: Path) -> None:
    flags = ("--model=FC10(1)", "--subset=train[:100]", f"--workdir={tmp_path}", f"--tfds_data_dir={digits_dir}")
    assert script("train", *flags, "--num_epochs=1", "--strategy=one_device").code == 0
    finished = script("train", *flags, "--num_epochs=2", "--strategy=one_device")
    assert finished.code == 0
    message = (
        "[2/2] train_FC10_1  replaces the result of an earlier run (training.num_epochs was 1 and is 2); pass another --workdir"
    )
    assert message in finished.err


def test_error_without_internet_access_says_how_to_get_the_data(
    script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_network(*_: object) -> None:
        raise OSError("no name server")

    monkeypatch.setattr("socket.getaddrinfo", no_network)
    monkeypatch.setattr("urllib.request.getproxies", dict)
    finished = script(
        "train", "--model=FC10(1)", "--dataset=mnist", f"--workdir={tmp_path / 'runs'}", f"--tfds_data_dir={tmp_path}"
    )
    line = _refused_in_one_line(finished)
    assert line.startswith("ConnectionError: could not download mnist: expected t10k-images-idx3-ubyte.gz, ")
    assert line.endswith("Pass manual_dir, a folder with these files, or use 'mnist_5k', which requires no network.")
    assert list((tmp_path / "runs").iterdir()) == []


def test_missing_source_folder_raises(script: Script, tmp_path: Path) -> None:
    finished = script(
        "train", "--model=FC10(1)", "--dataset=mnist", f"--tfds_manual_dir={tmp_path / 'mnist'}",
        f"--workdir={tmp_path / 'runs'}", f"--tfds_data_dir={tmp_path}",
    )  # fmt: skip
    assert "does not exist; expected a folder with t10k-images-idx3-ubyte.gz" in _refused_in_one_line(finished)


@pytest.mark.parametrize("name", ["attack", "measure_transfer"])
def test_folder_that_is_not_an_artifact_is_refused(script: Script, tmp_path: Path, name: str) -> None:
    given = [flag.replace("nowhere", str(tmp_path / "nowhere")) for flag in REQUIRED[name]]
    line = _refused_in_one_line(script(name, *given, f"--workdir={tmp_path / 'runs'}"))
    assert "nowhere is not an artifact: expected manifest.json in it, found none. Pass a folder that a step wrote." in line


def test_unwritable_workdir_raises(script: Script, tmp_path: Path, digits_dir: Path) -> None:
    (tmp_path / "file").write_text("precious")
    finished = script("train", "--model=FC10(1)", f"--workdir={tmp_path / 'file' / 'runs'}", f"--tfds_data_dir={digits_dir}")
    assert "cannot write to" in _refused_in_one_line(finished)
    assert "pass another --workdir" in finished.err


@pytest.mark.parametrize(
    "file", ["/usr/lib/json.py", REPOSITORY / ".venv/lib/site-packages/keras.py"], ids=["outside", "in .venv"]
)
def test_internal_errors_keep_their_traceback(
    script: Script, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, file: str | Path
) -> None:
    code = compile("raise ValueError('a defect below us')", str(file), "exec")
    monkeypatch.setattr("components.example_gen.executor.dataset_card", lambda *_, **__: exec(code))
    with pytest.raises(ValueError, match="a defect below us"):
        script("train", "--model=FC10(1)", f"--workdir={tmp_path}")
    assert list(tmp_path.iterdir()) == []
