"""Steps are published completely or not at all, finished steps are reused, and interrupted runs resume."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from components import runner
from components.artifacts import CorruptArtifactError
from components.runner import run
from tests.components import toys
from tests.components.toys import AdditionExecutor, Constant, two_steps

REPOSITORY = Path(__file__).resolve().parents[2]


def _raise_in_executor(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def fault() -> None:
        raise error

    monkeypatch.setattr(AdditionExecutor, "fault", staticmethod(fault))


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def _number(workdir: Path, step: str) -> int:
    return json.loads((workdir / step / "number.json").read_text())


def test_steps_run_in_order_and_leave_only_their_folders(tmp_path: Path, executed: list[str]) -> None:
    run(two_steps(tmp_path / "new" / "runs"))
    assert executed == [".one.partial", ".sum.partial"]
    assert _names(tmp_path / "new" / "runs") == ["one", "sum"]
    assert _number(tmp_path / "new" / "runs", "sum") == 3


def test_a_finished_step_is_reused(tmp_path: Path, executed: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    run(two_steps(tmp_path))
    executed.clear()
    capsys.readouterr()
    run(two_steps(tmp_path))
    assert executed == []
    assert capsys.readouterr().err == "[1/2] one  reused\n[2/2] sum  reused\n"


def test_replacing_an_earlier_result_is_logged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(two_steps(tmp_path))
    capsys.readouterr()
    run(two_steps(tmp_path, plus=10))
    assert "[2/2] sum  replaces the result of an earlier run (plus was 2 and is 10); pass another --workdir to keep both" in (
        capsys.readouterr().err
    )
    one = Constant("one", tmp_path, plus=5)
    run([one, toys.Sum("sum", tmp_path, numbers=one, plus=10)])
    assert "[2/2] sum  replaces the result of an earlier run (its inputs have changed); " in capsys.readouterr().err


def test_changed_settings_are_named_by_path_and_tuples_equal_lists(tmp_path: Path) -> None:
    class Trained(Constant):
        PARAMETERS = {"training": dict}

    step = Trained("one", tmp_path, training={"kind": "Minibatch", "num_epochs": 5, "pools": ({"size": 3},)})
    manifest = {"parameters": {"training": {"kind": "Minibatch", "num_epochs": 60, "pools": [{"size": 3}]}}, "inputs": {}}
    assert step.differences(manifest) == "training.num_epochs was 60 and is 5"
    manifest["parameters"]["training"]["num_epochs"] = 5
    assert step.differences(manifest) == "this code or the version of a library has changed"


def test_second_run_waits_for_the_first_and_reuses_its_result(
    tmp_path: Path, executed: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, may_end = threading.Event(), threading.Event()

    def work_until_released() -> None:
        begun.set()
        assert may_end.wait(60)

    monkeypatch.setattr(AdditionExecutor, "fault", staticmethod(work_until_released))
    first = threading.Thread(target=run, args=(two_steps(tmp_path)[:1],))
    first.start()
    assert begun.wait(60)
    second = threading.Thread(target=run, args=(two_steps(tmp_path)[:1],))
    second.start()
    err = ""
    while "waits for process" not in err:
        err += capsys.readouterr().err
    may_end.set()
    first.join(60)
    second.join(60)
    err += capsys.readouterr().err
    assert f"one  waits for process {os.getpid()}, which is working on the same step in {tmp_path}. To go on now, " in err
    assert "one  reused" in err
    assert executed == [".one.partial"]
    assert _names(tmp_path) == ["one"]


def test_step_is_not_published_if_its_input_changes_while_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, total = two_steps(tmp_path)
    run([one])

    def replace_input() -> None:
        monkeypatch.undo()
        run([Constant("one", tmp_path, plus=7)])

    monkeypatch.setattr(AdditionExecutor, "fault", staticmethod(replace_input))
    with pytest.raises(RuntimeError, match=f"the inputs of sum changed while it was working, .* another run in {tmp_path}"):
        run([total])
    assert _names(tmp_path) == ["one"]


def test_runs_print_nothing_to_stdout(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(two_steps(tmp_path))
    assert capsys.readouterr().out == ""


def test_changed_parameter_reruns_only_that_step(tmp_path: Path, executed: list[str]) -> None:
    run(two_steps(tmp_path))
    executed.clear()
    run(two_steps(tmp_path, plus=10))
    assert executed == [".sum.partial"]
    assert _number(tmp_path, "sum") == 11
    assert _names(tmp_path) == ["one", "sum"]


def test_changed_input_reruns_dependent_steps(tmp_path: Path, executed: list[str]) -> None:
    run(two_steps(tmp_path))
    executed.clear()
    one = Constant("one", tmp_path, plus=5)
    run([one, toys.Sum("sum", tmp_path, numbers=one, plus=2)])
    assert executed == [".one.partial", ".sum.partial"]
    assert _number(tmp_path, "sum") == 7


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), SystemExit(1)])
def test_failed_step_leaves_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    _raise_in_executor(monkeypatch, error)
    with pytest.raises(type(error)):
        run(two_steps(tmp_path))
    assert _names(tmp_path) == []


def test_failed_step_keeps_the_earlier_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(two_steps(tmp_path))
    _raise_in_executor(monkeypatch, ValueError("no"))
    with pytest.raises(ValueError, match="no"):
        run(two_steps(tmp_path, plus=10))
    assert _names(tmp_path) == ["one", "sum"]
    assert _number(tmp_path, "sum") == 3
    two_steps(tmp_path)[1].output.manifest()


def test_files_of_a_killed_run_are_removed(tmp_path: Path) -> None:
    for leftover in (".one.partial", ".one.stale"):
        (tmp_path / leftover).mkdir()
        (tmp_path / leftover / "rubbish.json").write_text("{")
    (tmp_path / "one").mkdir()  # without a manifest, as after a crash during publication
    run([Constant("one", tmp_path, plus=1)])
    assert _names(tmp_path) == ["one"]
    assert _names(tmp_path / "one") == ["half.json", "manifest.json", "number.json"]


def test_killed_run_resumes_at_the_interrupted_step(tmp_path: Path, executed: list[str]) -> None:
    program = f"from tests.components import toys; toys.run_and_kill_in_the_second_step({str(tmp_path)!r})"
    killed = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, timeout=120)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert _names(tmp_path) == [".sum.lock", ".sum.partial", "one"]  # the lock of a dead process blocks no other process
    assert _names(tmp_path / ".sum.partial") == ["half.json"]
    run(two_steps(tmp_path))
    assert executed == [".sum.partial"]
    assert _names(tmp_path) == ["one", "sum"]
    assert _number(tmp_path, "sum") == 3


def test_resumed_step_reads_its_temporary_files_and_then_removes_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toys.found_again.clear()
    step = toys.LongWork("long", tmp_path, plus=1, keeps="half way")
    with monkeypatch.context() as interrupted:
        _raise_in_executor(interrupted, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            run([step])
    assert _names(tmp_path) == [".long.tmp"]
    assert [path.name for path in (tmp_path / ".long.tmp").iterdir()] == [step.fingerprint()[:16]]
    run([step])
    assert toys.found_again == ["half way"]
    assert _names(tmp_path) == ["long"]


def test_temporary_files_are_not_used_with_other_parameters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toys.found_again.clear()
    with monkeypatch.context() as interrupted:
        _raise_in_executor(interrupted, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            run([toys.LongWork("long", tmp_path, plus=1, keeps="of another")])
    run([toys.LongWork("long", tmp_path, plus=2, keeps="half way")])
    assert toys.found_again == []
    assert _names(tmp_path) == ["long"]


def test_workers_read_the_temporary_files_of_the_chief(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toys.found_again.clear()
    step = toys.LongWork("long", tmp_path, plus=1, keeps="again")
    kept = tmp_path / ".long.tmp" / step.fingerprint()[:16] / "kept.txt"
    kept.parent.mkdir(parents=True)
    kept.write_text("by the chief")
    monkeypatch.setattr(runner, "writes_files", lambda: False)
    monkeypatch.setattr(runner, "_WAIT_SECONDS", 0.0)
    with pytest.raises(TimeoutError):
        run([step])
    assert toys.found_again == ["by the chief"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES], ids=errno.errorcode.get)
def test_disk_errors_say_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    _raise_in_executor(monkeypatch, OSError(number, os.strerror(number), "half.json"))
    with pytest.raises(
        OSError, match=f"cannot write to {tmp_path}: {os.strerror(number)}. Make room there, or pass another --workdir"
    ) as caught:
        run(two_steps(tmp_path))
    assert caught.value.errno == number
    assert _names(tmp_path) == []


def test_full_disk_keeps_the_finished_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, executed: list[str]) -> None:
    run(two_steps(tmp_path)[:1])
    _raise_in_executor(monkeypatch, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    with pytest.raises(OSError, match="No space left on device"):
        run(two_steps(tmp_path))
    assert _names(tmp_path) == ["one"]
    monkeypatch.undo()
    executed.clear()
    run(two_steps(tmp_path))
    assert executed == [".sum.partial"]


@pytest.mark.parametrize("below", ["file", "file/runs"])
def test_invalid_workdir_raises_before_any_step(tmp_path: Path, executed: list[str], below: str) -> None:
    (tmp_path / "file").write_text("precious")
    with pytest.raises(OSError, match=f"cannot write to {tmp_path / below}: Not a directory. .* pass another --workdir"):
        run(two_steps(tmp_path / below))
    assert executed == []
    assert (tmp_path / "file").read_text() == "precious"


@pytest.mark.parametrize("workdir", ["/proc/nowhere/runs", "x" * 300, "runs\0"], ids=["in /proc", "long", "null"])
def test_workdir_that_cannot_be_created_raises_before_any_step(tmp_path: Path, executed: list[str], workdir: str) -> None:
    with pytest.raises(OSError, match=r"(?s)cannot write to .*\. Make the folder, or pass another --workdir"):
        run(two_steps(tmp_path / workdir))
    assert executed == []


def test_other_system_errors_keep_their_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _raise_in_executor(monkeypatch, FileNotFoundError("no such data set"))
    with pytest.raises(FileNotFoundError, match="^no such data set$"):
        run(two_steps(tmp_path))


def test_altered_result_is_refused(tmp_path: Path, executed: list[str]) -> None:
    run(two_steps(tmp_path))
    (tmp_path / "one" / "number.json").write_text("100\n")
    executed.clear()
    with pytest.raises(
        CorruptArtifactError, match=r"number.json is not as it was written.*Delete .*one and run its step again"
    ):
        run(two_steps(tmp_path))
    assert executed == []
    assert _number(tmp_path, "sum") == 3


def test_workers_compute_but_only_the_chief_publishes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, executed: list[str]
) -> None:
    monkeypatch.setattr(runner, "writes_files", lambda: False)
    monkeypatch.setattr(runner, "_WAIT_SECONDS", 0.0)
    with pytest.raises(
        TimeoutError, match=r"the chief did not publish .*one within 0 s. Is --workdir a folder that all workers see\?"
    ):
        run(two_steps(tmp_path))
    assert len(executed) == 1
    assert _names(tmp_path) == []


def test_workers_wait_if_a_step_is_not_distributed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, executed: list[str]
) -> None:
    monkeypatch.setattr(runner, "writes_files", lambda: False)
    monkeypatch.setattr(runner, "_WAIT_SECONDS", 0.0)
    monkeypatch.setattr(Constant, "ON_EVERY_WORKER", False)
    with pytest.raises(TimeoutError, match="the chief did not publish"):
        run(two_steps(tmp_path))
    assert executed == []


def test_workers_continue_after_the_chief_has_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "writes_files", lambda: False)
    monkeypatch.setattr(AdditionExecutor, "fault", staticmethod(lambda: _publish_as_chief(tmp_path, monkeypatch)))
    run(two_steps(tmp_path)[:1])
    assert _names(tmp_path) == ["one"]


def _publish_as_chief(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AdditionExecutor, "fault", staticmethod(lambda: None))
    with monkeypatch.context() as chief:
        chief.setattr(runner, "writes_files", lambda: True)
        run(two_steps(workdir)[:1])
