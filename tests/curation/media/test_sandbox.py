"""Whatever a file does to its decoder, the parent gets one MediaError and the next call works."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest

from reelwright.curation.media import sandbox as sandbox_module
from reelwright.curation.media.errors import MediaError
from reelwright.curation.media.sandbox import Sandbox

pytestmark = pytest.mark.waits
HERE = "tests.curation.media.sandboxed:"


@pytest.fixture(scope="module")
def box():
    one = Sandbox(memory_bytes=512 << 20, stall_s=20)
    yield one
    one.close()


@pytest.fixture
def impatient(box):
    box.stall_s = 2.5
    yield box
    box.stall_s = 20


def kind_of(box: Sandbox, function: str, **kwargs) -> tuple[str, MediaError]:
    with pytest.raises(MediaError) as caught:
        box.call(HERE + function, kwargs)
    assert box.call(HERE + "echo", {"alive": True}).value == {"alive": True}
    return caught.value.kind, caught.value


def test_json_and_bytes_come_back_as_they_were(box):
    value = {"text": "Видео \udcff \x00", "list": [1, 2.5, None, True], "deep": {"a": [{}]}}
    assert box.call(HERE + "echo", value).value == value
    reply = box.call(HERE + "blobs", {"sizes": [0, 1, 5 << 20, 0, 3]})
    assert reply.value == "here"
    assert [len(b) for b in reply.blobs] == [0, 1, 5 << 20, 0, 3]
    assert reply.blobs[2] == b"\x02" * (5 << 20)


def test_one_child_serves_many_calls(box):
    assert len({box.call(HERE + "pid", {}).value for _ in range(5)}) == 1


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGKILL], ids=lambda s: s.name)
def test_a_crash(box, number):
    kind, error = kind_of(box, "crash", number=int(number))
    assert kind == "crash"
    assert number.name in error.message
    assert "last words" in error.detail


def test_a_silent_exit_is_a_crash(box):
    kind, error = kind_of(box, "leave", code=7)
    assert (kind, "exit code 7" in error.message) == ("crash", True)
    assert kind_of(box, "leave", code=0)[0] == "crash"


def test_a_hang_is_stopped_and_progress_is_not_a_hang(impatient):
    began = time.monotonic()
    kind, error = kind_of(impatient, "sleep", seconds=60)
    assert kind == "timeout"
    assert "2.5 s" in error.message
    assert time.monotonic() - began < 45
    impatient.stall_s = 5.0  # progress comes once a second
    heard = []
    assert impatient.call(HERE + "sleep", {"seconds": 6.5, "progress": True}, heard.append).value == "rested"
    assert heard


def test_progress_is_no_excuse_to_go_on_for_ever(box):
    with pytest.raises(MediaError, match=r"timeout: .*limits\.max_s"):
        box.call(HERE + "sleep", {"seconds": 60, "progress": True}, max_s=1.5)
    assert box.call(HERE + "echo", {"n": 1}, max_s=20).value == {"n": 1}


def test_imports_are_progress(impatient, tmp_path, monkeypatch):
    """Many modules, slow to read, none of which tells anybody."""
    for i in range(8):
        (tmp_path / f"slow_{i}.py").write_text("import time; time.sleep(0.5)\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    impatient.close()  # the next child sees the folder
    names = [f"slow_{i}" for i in range(8)]
    assert impatient.call(HERE + "import_all", {"names": names}).value == "imported"


def test_a_fifo_is_no_file(impatient, tmp_path):
    os.mkfifo(tmp_path / "video.mp4")
    path = str(tmp_path / "video.mp4")
    assert kind_of(impatient, "read_text", path=path)[0] == "timeout"
    impatient.stall_s = 20
    for function in ("probe_source", "hash_source"):
        with pytest.raises(MediaError) as caught:
            impatient.call(f"reelwright.pipelines.curate.workers.sandboxed:{function}", {"uri": path})
        assert caught.value.kind == "io"


@pytest.mark.parametrize("at_once", [False, True], ids=["step by step", "at once"])
def test_swelling_is_stopped(box, at_once):
    kind, _ = kind_of(box, "bloat", mib=4096, at_once=at_once)
    assert kind == "memory"


def test_what_a_library_prints_does_not_garble_the_stream(box):
    assert box.call(HERE + "chatter", {}).value == "done"
    assert box.call(HERE + "scream", {}).value == "done"


def test_what_a_function_raises(box):
    kind, error = kind_of(box, "fail", kind="media")
    assert (kind, error.message, error.detail) == ("open", "not a video", "box 'moov' is missing")
    assert kind_of(box, "fail", kind="memory")[0] == "memory"
    assert kind_of(box, "fail", kind="a library's memory")[0] == "memory"
    kind, error = kind_of(box, "fail", kind="bug")
    assert (kind, error.message) == ("bug", "ZeroDivisionError: a bug of ours")
    assert "sandboxed.py" in error.detail
    assert kind_of(box, "fail", kind="unprintable")[0] == "bug"


def test_a_reply_that_is_no_json_is_a_bug_and_not_a_crash(box):
    assert kind_of(box, "unserialisable")[0] == "bug"
    assert kind_of(box, "no_such_function")[0] == "bug"
    assert kind_of(box, "call_sys_exit")[0] in ("bug", "crash")


def test_the_child_dies_with_its_parent():
    program = textwrap.dedent(f"""
        import sys, time
        from reelwright.curation.media.sandbox import Sandbox
        box = Sandbox()
        print(box.call("{HERE}pid", {{}}).value, flush=True)
        box.call("{HERE}sleep", {{"seconds": 60, "progress": True}})
    """)
    root = Path(__file__).parents[3]
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, cwd=root)
    child = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.wait()
    parent.stdout.close()
    psutil.wait_procs([child], timeout=60)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


def test_a_call_that_is_interrupted_leaves_no_answer_behind(box):
    class Enough(Exception):
        pass

    def stop(_):
        raise Enough

    with pytest.raises(Enough):
        box.call(HERE + "sleep", {"seconds": 5, "progress": True}, stop)
    assert box.call(HERE + "echo", {"n": 1}).value == {"n": 1}


def test_nothing_is_unpickled():
    """By reading: neither side names a module that runs what it loads."""
    folder = Path(sandbox_module.__file__).parent
    for name in ("sandbox.py", "sandbox_child.py"):
        text = (folder / name).read_text()
        for word in ("import pickle", "marshal", "cloudpickle", "eval(", "exec(", "multiprocessing"):
            assert word not in text


def test_an_idle_sandbox_is_one_process_and_closing_ends_it():
    box = Sandbox()
    child = psutil.Process(box.call(HERE + "pid", {}).value)
    box.close()
    assert not child.is_running()
    box.close()
    assert box.call(HERE + "echo", {}).value == {}
    box.close()
