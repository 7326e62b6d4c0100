"""A real job server with token authentication: submit, follow, fail."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import yaml

from reelwright.curation.store import Store
from tests.conftest import REEL, ROOT
from tests.footage import footage
from tests.pipelines.app.made import served
from tests.pipelines.app.test_work_server import wait_for

BIN = Path(sys.executable).parent
TRAIN = {
    "model": {"hidden_size": 32, "depth": 1, "num_heads": 2, "caption_channels": 16, "adaln_tembed_dim": 16,
              "text_tokens": 8},
    "text": {"kind": "hashing", "dim": 16, "tokens": 8},
    "data": {"sizes": ["32x32"], "frames": [1, 9], "tokens_per_batch": 48, "batches_per_step": 1, "holdout": 0,
             "encode": "on_the_fly", "workers": 1},
    "compute": {"precision": "fp32"}, "log": {"every": 1, "tensorboard": False}, "steps": 2,
}  # fmt: skip


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class Head:
    """A cluster of one node, started as an operator would."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self.home.mkdir()
        clean = {k: v for k, v in os.environ.items() if not k.startswith("RAY_") and k != "PYTHONPATH"}
        path = f"{BIN}:{os.environ['PATH']}"
        self.outsider = clean | {"HOME": str(self.home / "nobody"), "PATH": path, "RAY_AUTH_MODE": "token"}
        self.environment = clean | {"HOME": str(self.home), "PATH": path, "RAY_AUTH_MODE": "token"}
        self.ray("get-auth-token", "--generate")
        gcs, dashboard = free_port(), free_port()
        self.address = f"http://127.0.0.1:{dashboard}"
        self.process = subprocess.Popen(
            [BIN / "ray", "start", "--head", f"--port={gcs}", f"--dashboard-port={dashboard}", "--num-cpus=2",
             "--block", f"--dashboard-agent-listen-port={free_port()}",
             f"--temp-dir={folder / 'r'}", "--disable-usage-stats"],
            env=self.environment, stdout=(folder / "head.log").open("w"), stderr=subprocess.STDOUT, cwd=folder,
            start_new_session=True,
        )  # fmt: skip
        self.log = folder / "head.log"
        self._wait()

    def ray(self, *arguments: str, **options) -> subprocess.CompletedProcess[str]:
        return subprocess.run([BIN / "ray", *arguments], env=self.environment, capture_output=True, text=True,
                              timeout=200, **options)  # fmt: skip

    def reel(self, *arguments: str | Path, **options) -> subprocess.CompletedProcess[str]:
        environment = options.pop("env", self.environment) | {"PYTHONPATH": str(ROOT)}
        return subprocess.run([*REEL, *map(str, arguments)], env=environment,
                              capture_output=True, text=True, timeout=200, **options)  # fmt: skip

    def _wait(self) -> None:
        import time

        for _ in range(300):
            if self.process.poll() is not None:
                pytest.fail(self.log.read_text())
            if self._answers() and self.ray("job", "list", "--address", self.address).returncode == 0:
                return
            time.sleep(0.2)
        pytest.fail(self.log.read_text())

    def _answers(self) -> bool:
        """Whether the job server is up: it may well refuse a stranger."""
        try:
            urllib.request.urlopen(f"{self.address}/api/jobs/", timeout=5)
        except urllib.error.HTTPError as error:
            return error.code in (401, 403)
        except OSError:
            return False
        return True

    def stop(self) -> None:
        import psutil

        family = [self.process.pid, *(p.pid for p in psutil.Process(self.process.pid).children(recursive=True))]
        self.process.terminate()
        try:
            self.process.wait(5)  # `ray start --block` does not end in 20 either
        except subprocess.TimeoutExpired:
            pass
        for pid in family:
            if psutil.pid_exists(pid):
                psutil.Process(pid).kill()


@pytest.fixture(scope="module")
def head():
    import tempfile

    folder = Path(tempfile.mkdtemp(prefix="rw"))  # short: Ray's sockets have at most 107 characters
    one = Head(folder)
    yield one
    one.stop()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def packages(tmp_path_factory) -> Path:
    """What is sent along: the code alone."""
    folder = tmp_path_factory.mktemp("packages")
    shutil.copytree(ROOT / "src", folder / "src", ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def recipe(folder: Path, inputs: str, store: str) -> Path:
    settings = {"inputs": [inputs], "store": str(folder / store), "encode": {"preset": "ultrafast"},
                "shots": {"detector": "pyscenedetect"}, "annotators": ["blur"]}  # fmt: skip
    path = folder / f"{store}.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


@pytest.fixture(scope="module")
def curated(head, packages, tmp_path_factory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A folder with a store of two films, which a job made, and what that said."""
    folder = tmp_path_factory.mktemp("curated")
    footage(folder / "in", 2, lengths=(40,))
    shutil.copy(recipe(folder, str(folder / "in"), "store"), packages / "run.yaml")
    return folder, head.ray("job", "submit", "--address", head.address, "--working-dir", str(packages), "--",
                            "python", "-m", "reelwright.pipelines.cli", "curate", "run.yaml")  # fmt: skip


def test_ray_job_submit(head, curated):
    folder, made = curated
    assert made.returncode == 0, made.stdout + made.stderr + head.log.read_text()
    assert "curate: 2/2" in made.stdout
    assert "2 inputs = 2 ok + 0 duplicate + 0 failed" in made.stdout
    assert (folder / "store" / "clips.lance").exists()


@pytest.mark.usefixtures("curated")
def test_reel_submit(head, packages):
    made = head.reel("submit", "curate", "--address", head.address, "--working-dir", packages, packages / "run.yaml")
    assert made.returncode == 0, made.stdout + made.stderr
    assert "SUCCEEDED" in made.stderr
    assert "2 inputs = 2 ok + 0 duplicate + 0 failed" in made.stdout


@pytest.mark.exhaustive
def test_training_is_submitted_too(head, packages, curated):
    folder, _ = curated
    Store.open(folder / "store").snapshots.create("all", "select clip_id from clips")
    (folder / "train.yaml").write_text(yaml.safe_dump(TRAIN))
    submit = ("submit", "train", "--address", head.address, "--working-dir", packages, folder / "train.yaml",
              "--snapshot", "all", "--store", folder / "store", "--out", folder / "runs")  # fmt: skip
    made = head.reel(*submit)
    assert made.returncode == 0, made.stdout + made.stderr
    assert "SUCCEEDED" in made.stderr
    assert "step 2/2" in made.stdout
    (run,) = (folder / "runs").iterdir()
    assert f"finished 2 steps: {run}" in made.stdout
    assert (run / "checkpoints" / "step-00000002" / "checkpoint.json").is_file()
    again = head.reel(*submit)
    assert (again.returncode, f"{run} is finished, nothing to do" in again.stdout) == (0, True), again.stdout


@pytest.mark.exhaustive
def test_the_page_of_reel_app_submits_what_goes_on_without_it(head, curated, monkeypatch):
    folder, _ = curated
    store = Store.open(folder / "store")
    store.snapshots.create("of-the-app", "select clip_id from clips")
    (folder / "app.yaml").write_text(yaml.safe_dump(TRAIN))
    for name, value in head.environment.items():
        monkeypatch.setenv(name, value)
    options = ("--allow-commands", "--work", str(folder), "--job-server", head.address)
    asked = {"recipe": "app.yaml", "snapshot": "of-the-app", "out": "runs-of-the-app"}
    with served(folder / "store", *options) as app:
        assert app.ask("/api/start_command", {"command": "cleanup", "on_cluster": True})[0] == 400
        begun = app.call("start_command", command="train", arguments=asked, on_cluster=True)
        assert begun["line"].startswith(f"reel submit train --address={head.address} --no-wait ")
        one = wait_for(lambda: (now := app.call("commands")["started"][0])["state"] != "running" and now)
        assert one["state"] == "done", one["output"]
    job = re.search(r"job (\S+) at ", one["output"])
    assert job, one["output"]
    made = head.ray("job", "logs", "--follow", "--address", head.address, job[1])
    assert "finished 2 steps" in made.stdout, made.stdout + made.stderr
    assert len(list((folder / "runs-of-the-app").iterdir())) == 1


@pytest.mark.exhaustive
def test_a_run_that_fails_fails_the_job(head, packages, tmp_path):
    path = recipe(tmp_path, str(tmp_path / "missing"), "store")
    made = head.reel("submit", "curate", "--address", head.address, "--working-dir", packages, path)
    assert made.returncode == 1
    assert "missing does not exist" in made.stdout
    assert "FAILED" in made.stderr
    assert "Traceback" not in made.stdout + made.stderr


@pytest.mark.exhaustive
def test_without_a_token_or_a_server_it_is_one_sentence(head, tmp_path):
    (tmp_path / "nobody").mkdir()
    for environment in (head.outsider, head.environment | {"RAY_AUTH_TOKEN": "0" * 64}):
        refused = head.reel("submit", "curate", "--address", head.address, "x.yaml", env=environment)
        assert refused.returncode == 1
        assert len(refused.stderr.strip().splitlines()) == 1, refused.stderr
        assert "token" in refused.stderr
    nobody = head.reel("submit", "curate", "--address", f"http://127.0.0.1:{free_port()}", "x.yaml")
    assert nobody.returncode == 1
    assert len(nobody.stderr.strip().splitlines()) == 1, nobody.stderr
    assert "cannot submit to http://127.0.0.1" in nobody.stderr


def test_the_server_itself_wants_the_token(head):
    """Not only our client: the job server does not answer strangers."""
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(f"{head.address}/api/jobs/")
    assert caught.value.code in (401, 403)


@pytest.mark.exhaustive
def test_a_job_that_failed_is_submitted_again(head, packages):
    code = "import sys; from reelwright.pipelines.runtime.jobs import run_job; " \
           "sys.exit(run_job(['recipe', '--set', 'nonsense'], address=sys.argv[1], " \
           "working_dir=sys.argv[2], job_id='train-failing'))"  # fmt: skip
    for attempt in ("train-failing", "train-failing-2"):
        failed = subprocess.run([sys.executable, "-c", code, head.address, str(packages)], capture_output=True,
                                env=head.environment | {"PYTHONPATH": str(ROOT)}, text=True, timeout=200)  # fmt: skip
        assert f"job {attempt}: FAILED" in failed.stderr


@pytest.mark.exhaustive
def test_a_job_that_has_succeeded_goes_on_and_one_that_runs_is_left_alone(head, packages, tmp_path):
    """As after a `stop` file: the job succeeded, and what it is for is not done."""
    code = "import sys; from reelwright.pipelines.runtime.jobs import run_job; " \
           "sys.exit(run_job(sys.argv[4:], address=sys.argv[1], " \
           "working_dir=sys.argv[2], job_id='train-a-b', wait=sys.argv[3] == 'wait'))"  # fmt: skip

    def submit(how: str, *command: str) -> subprocess.CompletedProcess[str]:
        python = [sys.executable, "-c", code, head.address, str(packages), how]
        return subprocess.run([*python, *command], capture_output=True, text=True, timeout=200,
                              env=head.environment | {"PYTHONPATH": str(ROOT)})  # fmt: skip

    for attempt in ("train-a-b", "train-a-b-2"):
        assert f"job {attempt}: SUCCEEDED" in submit("wait", "recipe").stderr
    os.mkfifo(query := tmp_path / "query.sql")  # a job that runs until somebody writes its query
    endless = ["sql", "--file", str(query), "--store", str(tmp_path)]
    assert "job train-a-b-3 at" in submit("go", *endless).stdout
    assert "job train-a-b-3 at" in (again := submit("go", *endless)).stdout
    assert "exists already" in again.stdout
    write_once_read(query, b"select 1")


def write_once_read(fifo: Path, text: bytes) -> None:
    """Write to a named pipe as soon as somebody reads it."""
    deadline = time.monotonic() + 100
    while True:
        try:
            pipe = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:
            assert time.monotonic() < deadline, "nobody reads"
            time.sleep(0.1)
        else:
            break
    os.write(pipe, text)
    os.close(pipe)
