"""The command line's contract: exit codes, JSON, errors for people, help. The engine is replaced; root: not needed."""

from __future__ import annotations

import errno
import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import ckpt
from ckpt.chain.directory import ImageInfo
from ckpt.chain.verify import VerifyReport
from ckpt.cli import output
from ckpt.cli.main import main
from ckpt.errors import CkptError, NoSuchTask, NotDumpable, Refusal
from ckpt.records.image import ImageHeader, Statistics

COMMANDS = ("pre-dump", "dump", "precopy", "merge", "verify", "show", "restore", "doctor")
CONTRACT = {
    "round", "kind", "parent", "tracker", "full_reason", "freezing_time", "frozen_time", "memdump_time",
    "memwrite_time", "pages_scanned", "pages_written", "pages_skipped_parent", "pages_zero", "bytes_plain",
    "bytes_stored",
}  # fmt: skip


def info(number: int = 1, kind: str = "pre-dump") -> ImageInfo:
    parent = None if number == 1 else bytes([number - 1]) * 16
    header = ImageHeader(
        image_id=bytes([number]) * 16,
        chain_id=b"c" * 16,
        kind=kind,
        round=number,
        parent=parent,
        root_pid=4121,
        root_start_time=1,
        boot_id="boot",
        tracker="write-protect",
        full_reason=None if parent else "it is the first round",
        created=1.0,
        page_size=4096,
        arch="x86_64",
        kernel_release="6.1",
        ckpt_version="0",
    )
    return ImageInfo(Path(f"/chain/{number:04d}.ckpt"), 4096, header, Statistics(frozen_time=2500, pages_written=3))


def fake(monkeypatch: pytest.MonkeyPatch, verb: str, result: Any) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
    """Put a stand-in for an engine verb in the public API; gives the list of its calls."""
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def call(*args: Any, **kwargs: Any) -> Any:
        calls.append((args, kwargs))
        if isinstance(result, BaseException):
            raise result
        return result

    monkeypatch.setattr(ckpt, verb, call)
    return calls


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command_has_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    assert f"Example: ckpt {command}" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        ["no-such-command"],
        ["dump"],
        ["dump", "-t", "many", "-D", "x"],
        ["doctor", "--no-such-option"],
        ["dump", "-t", "1", "-D", "x", "--leave-running", "--leave-stopped"],
        ["dump", "-t", "1", "-D", "x", "--ghost-limit", "-1"],
    ],
)
def test_usage_errors_are_2_in_both_forms(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.startswith("error: ") and "Traceback" not in said.err
    assert main([*arguments, "--json"]) == 2
    said = capsys.readouterr()
    error = json.loads(said.err)["error"]
    assert said.out == "" and error["type"] == "UsageError" and error["exit_code"] == 2


def test_no_arguments_print_the_help_and_are_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "pre-dump" in capsys.readouterr().out


def test_json_of_a_round_holds_the_contract(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake(monkeypatch, "pre_dump", info(2))
    assert main(["pre-dump", "-t", "4121", "-D", "/chain", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found) >= CONTRACT
    assert found["parent"] == "01" * 16 and found["frozen_time"] == 2500 and found["pages_written"] == 3


def test_json_of_show_lists_the_images(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    fake(monkeypatch, "show", [info(1), info(2, "dump")])
    assert main(["show", "-D", "/chain", "--json"]) == 0
    images = json.loads(capsys.readouterr().out)["images"]
    assert [(i["round"], i["kind"], i["parent"]) for i in images] == [(1, "pre-dump", None), (2, "dump", "01" * 16)]
    assert all(set(image) >= CONTRACT for image in images)


def test_show_for_people_names_every_round(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    fake(monkeypatch, "show", [info(1), info(2, "dump")])
    assert main(["show", "-D", "/chain"]) == 0
    said = capsys.readouterr().out
    assert "pre-dump" in said and "dump" in said and "2.5 ms" in said and "it is the first round" in said


def test_options_of_dump_reach_the_engine(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    calls = fake(monkeypatch, "dump", info(1, "dump"))
    flags = ["--leave-stopped", "--tcp-established", "--ext-unix", "--ext-pipe", "--shell-job", "--ghost-limit", "77"]
    assert main(["dump", "-t", "4121", "-D", "/chain", *flags, "--tracker", "content-hash", "--timeout", "9"]) == 0
    (args, kwargs), options = calls[0], calls[0][1]["options"]
    assert args == (4121, Path("/chain"))
    assert (kwargs["leave"], kwargs["tracker"], kwargs["timeout"]) == ("stopped", "content-hash", 9.0)
    assert options == ckpt.DumpOptions(True, True, True, True, 77)


def test_connections_are_either_kept_or_closed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = fake(monkeypatch, "dump", info(1, "dump"))
    assert main(["dump", "-t", "4121", "-D", "/chain", "--tcp-close"]) == 0
    assert calls[0][1]["options"] == ckpt.DumpOptions(tcp_close=True)
    assert main(["dump", "-t", "4121", "-D", "/chain", "--tcp-close", "--tcp-established"]) == 2
    assert "exclude each other" in capsys.readouterr().err


def test_options_of_precopy_are_in_the_engines_units(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = fake(monkeypatch, "precopy", [info(1), info(2, "dump")])
    limits = ["--max-rounds", "3", "--downtime-limit", "100", "--bandwidth", "125"]
    assert main(["precopy", "-t", "1", "-D", "/chain", *limits, "--json"]) == 0
    kwargs = calls[0][1]
    assert (kwargs["max_rounds"], kwargs["downtime_limit"], kwargs["bandwidth"]) == (3, 0.1, 125e6)
    assert len(json.loads(capsys.readouterr().out)["images"]) == 2


def test_an_error_is_two_lines_and_its_class_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake(monkeypatch, "pre_dump", NoSuchTask("there is no task 4121", hint="check the pid with ps"))
    assert main(["pre-dump", "-t", "4121", "-D", "/chain"]) == 21
    assert capsys.readouterr().err == "error: there is no task 4121\nhint: check the pid with ps\n"
    assert main(["pre-dump", "-t", "4121", "-D", "/chain", "--json"]) == 21
    assert json.loads(capsys.readouterr().err) == {
        "error": {
            "type": "NoSuchTask",
            "message": "there is no task 4121",
            "hint": "check the pid with ps",
            "exit_code": 21,
        }
    }


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        RuntimeError("can't start new thread"),
        ImportError("no numpy.\n\nOriginal error was: libblas.so: failed to map segment from shared object\n"),
    ],
)
def test_too_little_memory_is_said_in_two_lines(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake(monkeypatch, "pre_dump", error)
    assert main(["pre-dump", "-t", "4121", "-D", "/chain"]) == 1
    first, second = capsys.readouterr().err.splitlines()
    assert "memory" in first
    assert second.startswith("hint: free memory")


@pytest.mark.parametrize(
    ("verb", "limit", "value", "option"),
    [
        ("doctor", resource.RLIMIT_NOFILE, 5, "ulimit -n"),
        ("pre-dump", resource.RLIMIT_FSIZE, 4096, "ulimit -f"),
    ],
)
def test_a_limit_that_is_too_low_is_named(tmp_path: Path, verb: str, limit: int, value: int, option: str) -> None:
    directory = ["-D", str(tmp_path)] if verb == "pre-dump" else []
    with subprocess.Popen(["sleep", "600"]) as task:
        try:
            said = subprocess.run(
                [sys.executable, "-m", "ckpt", verb, *directory, "-t", str(task.pid)],
                preexec_fn=lambda: resource.setrlimit(limit, (value, value)), capture_output=True, text=True,
                env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}, check=False,
            )  # fmt: skip
        finally:
            task.kill()
    lines = said.stderr.splitlines()
    assert said.returncode and len(lines) == 2 and lines[0].startswith("error: "), said
    assert lines[1].startswith("hint: ") and option in lines[1], said


def test_numpy_has_no_threads() -> None:
    code = (
        "import os, sys; sys.argv = ['ckpt', '--nothing']; from ckpt.cli.main import run\n"
        "try: run()\nexcept SystemExit: import numpy; print(len(os.listdir('/proc/self/task')))"
    )
    environment = {name: value for name, value in os.environ.items() if name != "OPENBLAS_NUM_THREADS"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert done.stdout == "1\n", done


def test_every_refusal_is_in_the_json(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    refusals = [Refusal(7, "fd 3", "is an io_uring", "stop it"), Refusal(8, "fd 4", "is a bpf map")]
    fake(monkeypatch, "dump", NotDumpable(refusals))
    assert main(["dump", "-t", "7", "-D", "/chain", "--json"]) == 25
    found = json.loads(capsys.readouterr().err)["error"]["refusals"]
    assert [(r["pid"], r["object"], r["hint"]) for r in found] == [(7, "fd 3", "stop it"), (8, "fd 4", None)]


def test_ctrl_c_is_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    fake(monkeypatch, "pre_dump", KeyboardInterrupt())
    assert main(["pre-dump", "-t", "4121", "-D", "/chain"]) == 130
    assert "Traceback" not in capsys.readouterr().err


def test_ctrl_c_before_the_command_begins() -> None:
    """While the imports are under way it ends ckpt as it ends any program, without a traceback."""
    early = "import signal, ckpt.cli.main as m; m.main = lambda _: signal.raise_signal(signal.SIGINT); m.run()"
    done = subprocess.run([sys.executable, "-c", early, "doctor"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (-2, "")


def test_verify_that_finds_damage_fails(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    fake(monkeypatch, "verify", VerifyReport(images=1, frames=2, bytes=3, problems=("0001.ckpt: frame 2 is damaged",)))
    assert main(["verify", "-D", "/chain"]) == 30
    assert "frame 2 is damaged" in capsys.readouterr().err
    assert main(["verify", "-D", "/chain", "--json"]) == 30
    assert json.loads(capsys.readouterr().out)["ok"] is False


def test_progress_as_json_lines_goes_to_standard_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def pre_dump(*_: Any, progress: Any, **__: Any) -> ImageInfo:
        progress("copy", 1, 2)
        return info()

    monkeypatch.setattr(ckpt, "pre_dump", pre_dump)
    assert main(["pre-dump", "-t", "1", "-D", "/chain", "--progress", "json", "--json"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.err) == {"progress": {"phase": "copy", "done": 1, "total": 2}}
    assert json.loads(said.out)["round"] == 1


def test_exit_codes_are_unique_and_in_their_decade() -> None:
    found: dict[int, str] = {}
    waiting = [CkptError]
    while waiting:
        error = waiting.pop()
        assert error.exit_code not in found, (error.__name__, found[error.exit_code])
        found[error.exit_code] = error.__name__
        children = error.__subclasses__()
        waiting += children
        if error.exit_code >= 10:
            assert all(child.exit_code // 10 == error.exit_code // 10 for child in children)


def test_version_imports_nothing_heavy() -> None:
    code = "import sys; sys.argv = ['ckpt', '--version']; from ckpt.cli.main import run\n"
    code += (
        "try: run()\nexcept SystemExit as stop: print(stop.code, sorted({'numpy', 'typer', 'rich'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.stdout == f"ckpt {ckpt.__version__}\n0 []\n", done.stderr


def test_units_for_people() -> None:
    assert [output.size_text(n) for n in (0, 1023, 1024, 3 << 30)] == ["0 B", "1023 B", "1.0 KiB", "3.0 GiB"]
    assert [output.time_text(n) for n in (999, 2500, 1_500_000)] == ["999 µs", "2.5 ms", "1.50 s"]


def test_restore_passes_the_status_on(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    waited: list[str] = []

    class Restored:
        pid, pids, restore_time_us, header = 4121, (4121,), 10, info().header
        namespaces, outside_pid, notes = (), 0, ("a note",)

        def wait(self) -> int:
            waited.append("wait")
            return 7

    calls = fake(monkeypatch, "restore", Restored())
    assert main(["restore", "-D", "/chain", "--at", "2"]) == 7 and waited == ["wait"]
    assert main(["restore", "-D", "/chain", "--detach", "--pidfile", "/p", "--json"]) == 0 and waited == ["wait"]
    assert json.loads(capsys.readouterr().out)["pid"] == 4121
    assert calls[0][1]["at"] == 2 and calls[1][1]["detach"] and calls[1][1]["pidfile"] == Path("/p")


VERBS = (["pre-dump", "-t", str(os.getppid())], ["show"], ["verify"], ["restore"], ["merge", "-o", "merged.ckpt"])


@pytest.mark.parametrize("verb", VERBS)
def test_a_name_that_no_directory_can_have(verb: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    code = main([*verb, "-D", "x" * 300, "--json"])
    error = json.loads(capsys.readouterr().err)["error"]
    assert code == error["exit_code"] == 40, error


@pytest.mark.parametrize("verb", VERBS)
def test_an_empty_name_is_not_the_working_directory(verb: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*verb, "-D", "", "--json"]) == 2
    assert "empty" in json.loads(capsys.readouterr().err)["error"]["message"]


@pytest.mark.parametrize("timeout", ["0", "-1", "nan"])
def test_a_deadline_that_is_none(tmp_path: Path, timeout: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pre-dump", "-t", str(os.getppid()), "-D", str(tmp_path / "x"), "--timeout", timeout]) == 2
    assert "--timeout" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--downtime-limit", "--bandwidth"])
def test_what_is_not_a_number(tmp_path: Path, option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["precopy", "-t", str(os.getppid()), "-D", str(tmp_path / "x"), option, "nan"]) == 2
    said = capsys.readouterr().err
    assert option in said and "hint: " in said
