"""A Slurm of a test: Debian's daemons, and hosts in network namespaces with names and addresses of their own."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.conftest import ROOT
from tests.pipelines.hosts import OWN, ROUTER, Host

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")
SYSTEM = "/usr/sbin:/usr/bin:/sbin:/bin"
CONFIGURATION = """
ClusterName=reel
SlurmctldHost={controller}({router})
SlurmUser=root
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmctldLogFile={folder}/slurmctld.log
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdLogFile={folder}/%n.log
SlurmdPidFile={folder}/%n.pid
SlurmdSpoolDir={folder}/%n
SlurmdTimeout=10
ReturnToService=2
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
OVER = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY"}


class NoSlurmError(Exception):
    """This machine has no Slurm."""


class Slurm:
    """A controller on the machine itself, and a node per host, of one CPU, named by its address: `node2`.

    All of them see and write `folder`, as a cluster's home; /tmp is each node's own. Jobs get `variables`, as of the
    shell that submits.
    """

    def __init__(self, hosts: Sequence[Host], variables: dict[str, str]) -> None:
        missing = [name for name in PROGRAMS if not shutil.which(name, path=SYSTEM)]
        if missing:
            raise NoSlurmError(f"no Slurm here ({', '.join(missing)}): apt-get install slurm-wlm munge")
        self.hosts = list(hosts)
        self.folder = Path(tempfile.mkdtemp(prefix="reel-slurm-", dir="/run"))
        self.environment = variables | {
            "PATH": f"{Path(sys.executable).parent}:{SYSTEM}", "HOME": "/tmp", "PYTHONPATH": str(ROOT),
            "SLURM_CONF": str(self.folder / "slurm.conf"),
        }  # fmt: skip
        self.daemons: list[subprocess.Popen[str]] = []

    def __enter__(self) -> "Slurm":
        try:
            self._configure()
            self._daemon("munged", "--foreground", "--force", f"--key-file={self.folder}/munge.key",
                         f"--socket={self.folder}/munge.socket", f"--pid-file={self.folder}/munged.pid",
                         f"--seed-file={self.folder}/munged.seed", f"--log-file={self.folder}/munged.log")  # fmt: skip
            wait_for((self.folder / "munge.socket").exists, 30)
            self._daemon("slurmctld", "-D", "-f", self.environment["SLURM_CONF"])
            for host in self.hosts:
                self._boot(host)
            wait_for(lambda: self._states() == ["idle"] * len(self.hosts), 60)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        for host in self.hosts:
            host.kill()
        for daemon in self.daemons:
            daemon.kill()
            daemon.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _configure(self) -> None:
        self.folder.chmod(0o755)
        controller = socket.gethostname().partition(".")[0]
        text = CONFIGURATION.format(folder=self.folder, controller=controller, router=ROUTER)
        names = [f"127.0.0.1 localhost\n{ROUTER} {controller}"]
        for host in self.hosts:
            text += f"NodeName={name_of(host)} NodeAddr={host.address} CPUs=1 RealMemory=4000\n"
            names.append(f"{host.address} {name_of(host)}")
            (self.folder / name_of(host)).mkdir()
        (self.folder / "state").mkdir()
        (self.folder / "slurm.conf").write_text(text)
        for host in self.hosts:  # as Debian installs a machine: its own name is on loopback
            own = f"127.0.1.1 {name_of(host)}"
            (self.folder / f"{name_of(host)}.hosts").write_text("\n".join([own, *names]) + "\n")
        (self.folder / "munge.key").write_bytes(os.urandom(128))
        (self.folder / "munge.key").chmod(0o400)

    def _daemon(self, *command: str) -> None:
        log = (self.folder / "daemons.log").open("a")
        self.daemons.append(subprocess.Popen(command, env=self.environment, stdout=log, stderr=log, text=True))

    def _boot(self, host: Host) -> None:
        name = name_of(host)
        shared = f"mount --bind {self.folder} {self.folder} && mount -o remount,bind,rw {self.folder}"
        names = f"hostname {name} && mount --bind {self.folder}/{name}.hosts /etc/hosts"
        steps = f"{shared} && {names} && exec slurmd -D"
        host.start(["unshare", "--mount", "--uts", "sh", "-c", steps], self.environment, "slurmd.log")

    def ask(self, *command: str | Path, check: bool = True) -> str:
        """Run one of Slurm's commands on the controller; return what it printed."""
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, cwd=self.folder)
        assert not check or done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout.strip()

    def _states(self) -> list[str]:
        return self.ask("sinfo", "--noheader", "--Node", "--format=%T", check=False).split()

    def submit(self, *arguments: str | Path) -> str:
        """Submit a script; return the job's number."""
        return self.ask("sbatch", "--parsable", f"--output={self.folder}/%j.out", *arguments)

    def job(self, number: str) -> dict[str, str]:
        """Return what the controller knows of a job."""
        words = self.ask("scontrol", "--oneliner", "show", "job", number).split()
        return dict(word.split("=", 1) for word in words if "=" in word)

    def over(self, number: str) -> bool:
        return self.job(number)["JobState"] in OVER

    def ended(self, number: str) -> str:
        """Wait for the end of a job; return its state and exit code, as `COMPLETED 0:0`."""
        wait_for(lambda: self.over(number), 400)
        told = self.job(number)
        return f"{told['JobState']} {told['ExitCode']}"

    def said(self, number: str) -> str:
        """Return what a job printed."""
        path = self.folder / f"{number}.out"
        return path.read_text() if path.exists() else ""

    def left(self) -> list[str]:
        """Return what nodes still have of jobs a moment after their end: processes, and files in /tmp."""
        found: list[str] = []

        def clean() -> bool:
            found[:] = [line for host in self.hosts for line in left_on(host)]
            return not found

        with contextlib.suppress(AssertionError):
            wait_for(clean, 30)
        return found


def name_of(host: Host) -> str:
    return f"node{host.address.rpartition('.')[2]}"


def left_on(host: Host) -> list[str]:
    pids = subprocess.run(["ip", "netns", "pids", host.name], capture_output=True, text=True).stdout.split()
    running = [Path(f"/proc/{pid}/cmdline") for pid in pids]
    commands = [path.read_text().replace("\0", " ") for path in running if path.exists()]
    own = {"slurmd.log", *OWN.values()}
    places = [path for path in host.folder.iterdir() if path.name not in own]
    places += [path for name in OWN.values() for path in (host.folder / name).iterdir()]
    files = [str(path) for path in places]
    return files + [command for command in commands if not command.startswith("slurmd -D")]


def wait_for(what: Callable[[], bool], seconds: float) -> None:
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until
        time.sleep(0.3)
