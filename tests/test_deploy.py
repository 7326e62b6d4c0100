"""The files of `deploy/`: schemas, the commands that they call, and versions. No cluster is started."""

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import typer
import yaml

from tests.conftest import ROOT
from tests.documents import blocks

DEPLOY = ROOT / "deploy"


def loaded(name: str) -> Any:
    return yaml.safe_load((DEPLOY / name).read_text())


def closed(required: dict[str, Any], optional: dict[str, Any] | None = None) -> dict[str, Any]:
    """A schema of an object with these properties and no others."""
    return {"type": "object", "properties": required | (optional or {}), "required": list(required),
            "additionalProperties": False}  # fmt: skip


TEXT, COUNT = {"type": "string"}, {"type": "integer", "minimum": 0}
TEXTS = {"type": "object", "additionalProperties": TEXT}
KEY = closed({"secretKeyRef": closed({"name": TEXT, "key": TEXT})})
VARIABLE = {"oneOf": [closed({"name": TEXT, "value": TEXT}), closed({"name": TEXT, "valueFrom": KEY})]}
CONTAINER = closed(
    {"name": TEXT, "image": TEXT, "resources": closed({"requests": TEXTS, "limits": TEXTS})},
    {"env": {"type": "array", "items": VARIABLE},
     "volumeMounts": {"type": "array", "items": closed({"name": TEXT, "mountPath": TEXT})}},
)  # fmt: skip
POD = closed({"spec": closed(
    {"containers": {"type": "array", "minItems": 1, "items": CONTAINER}},
    {"terminationGracePeriodSeconds": COUNT,
     "volumes": {"type": "array", "items": {"oneOf": [
         closed({"name": TEXT, "emptyDir": closed({"sizeLimit": TEXT})}),
         closed({"name": TEXT, "configMap": closed({"name": TEXT})}),
     ]}}},
)})  # fmt: skip
WORKERS = closed({"groupName": TEXT, "replicas": COUNT, "minReplicas": COUNT, "maxReplicas": COUNT,
                  "rayStartParams": TEXTS, "template": POD})  # fmt: skip
RAY_JOB = closed({
    "apiVersion": {"const": "ray.io/v1"}, "kind": {"const": "RayJob"}, "metadata": closed({"name": TEXT}),
    "spec": closed({
        "entrypoint": TEXT, "shutdownAfterJobFinishes": {"type": "boolean"}, "ttlSecondsAfterFinished": COUNT,
        "backoffLimit": COUNT,
        "rayClusterSpec": closed({
            "authOptions": closed({"mode": {"enum": ["token", "disabled"]}}),
            "rayVersion": TEXT, "enableInTreeAutoscaling": {"type": "boolean"},
            "headGroupSpec": closed({"rayStartParams": TEXTS, "template": POD}),
            "workerGroupSpecs": {"type": "array", "minItems": 1, "items": WORKERS},
        }),
    }),
})  # fmt: skip
"""The part of KubeRay's `RayJob` that we use, written after its definition: a misspelt or misplaced field is found."""


def test_the_job_of_kubernetes_has_its_form_and_takes_keys_from_a_secret():
    job = loaded("rayjob.yaml")
    jsonschema.validate(job, RAY_JOB)
    cluster = job["spec"]["rayClusterSpec"]
    for pod in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        (container,) = pod["template"]["spec"]["containers"]
        kept = {variable["name"] for variable in container["env"] if "valueFrom" in variable}
        assert kept == {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
        mounts = {mount["name"] for mount in container.get("volumeMounts", ())}
        assert mounts == {volume["name"] for volume in pod["template"]["spec"].get("volumes", ())}
    check_reel(job["spec"]["entrypoint"])
    (recipe,) = re.findall(r"--recipe (\S+)", job["spec"]["entrypoint"])
    (head,) = cluster["headGroupSpec"]["template"]["spec"]["containers"]
    assert Path(recipe).parent == Path(head["volumeMounts"][0]["mountPath"])
    assert f"--from-file={Path(recipe).name}" in (DEPLOY / "rayjob.yaml").read_text()
    assert cluster["authOptions"] == {"mode": "token"}, "a token that KubeRay did not make is not told its submitter"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(job | {"spec": job["spec"] | {"entryPoint": "reel"}}, RAY_JOB)


@pytest.mark.parametrize("name", ["rayjob.yaml", "cluster.yaml"])
def test_the_page_s_group_of_gpus_fits_the_file_that_it_is_added_to(name):
    """As its reader puts it: at the end of the job's groups, and beside the launcher's other types."""
    first, before, indent = {
        "rayjob.yaml": ("- groupName: gpu", "", 6),
        "cluster.yaml": ("gpu:", "head_node_type:", 2),
    }[name]
    (block,) = (b.text for b in blocks("yaml", document=ROOT / "docs" / "cluster.md") if b.text.startswith(first))
    text = (DEPLOY / name).read_text()
    place = text.index(before) if before else len(text)
    added = yaml.safe_load(text[:place] + textwrap.indent(block, " " * indent) + "\n" + text[place:])
    if name == "rayjob.yaml":
        jsonschema.validate(added, RAY_JOB)
        *_, group = added["spec"]["rayClusterSpec"]["workerGroupSpecs"]
        (container,) = group["template"]["spec"]["containers"]
        assert "nvidia.com/gpu" in container["resources"]["limits"], "KubeRay tells Ray of GPUs by this limit"
    else:
        jsonschema.validate(added, launcher_schema())
        assert set(added["available_node_types"]) == {"head", "decode", "gpu"}


def test_the_page_s_recipe_for_gpus_asks_for_them():
    from reelwright.pipelines.annotate.lanes import need_of
    from reelwright.pipelines.annotate.load import load_annotators
    from reelwright.pipelines.recipes.curation import CurateRecipe

    (block,) = (b.text for b in blocks("yaml", document=ROOT / "docs" / "cluster.md") if "gpus: 1}" in b.text)
    recipe = CurateRecipe.model_validate(yaml.safe_load(block))
    annotator = load_annotators(recipe)["visual_embedding"]
    assert need_of(annotator, recipe).gpus == 1
    assert recipe.resources.annotators["visual_embedding"].actors == 8


def test_ray_s_version_is_one_everywhere():
    pinned = re.search(r"^ray==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert pinned
    assert loaded("rayjob.yaml")["spec"]["rayClusterSpec"]["rayVersion"] == pinned[1]
    assert "constraints.txt" in (DEPLOY / "Dockerfile").read_text()


def launcher_schema() -> Any:
    import ray

    return json.loads((Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text())


def test_the_launcher_s_file_fits_ray_s_own_schema():
    schema = launcher_schema()
    cluster = loaded("cluster.yaml")
    jsonschema.validate(cluster, schema)
    assert cluster["head_node_type"] in cluster["available_node_types"]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(cluster | {"max_worker": 1}, schema)
    for line in cluster["head_start_ray_commands"] + cluster["worker_start_ray_commands"]:
        check_ray(line)


def test_the_keys_are_where_docker_looks_for_them():
    """Ray copies files for the container below a folder of the machine; `--env-file` is read there, by Docker."""
    from ray.autoscaler.sdk import get_docker_host_mount_location

    cluster = loaded("cluster.yaml")
    (inside,) = cluster["file_mounts"]
    option, path = cluster["docker"]["run_options"]
    assert (option, path) == ("--env-file", get_docker_host_mount_location(cluster["cluster_name"]) + inside)


def test_the_script_for_slurm_parses_and_calls_what_there_is():
    script = (DEPLOY / "slurm.sh").read_text()
    subprocess.run(["bash", "-n", DEPLOY / "slurm.sh"], check=True)
    flat = re.sub(r"\\\n\s*", "", script)
    (common,) = re.findall(r'"\$\{@:3\}" (--.*) &$', flat, re.MULTILINE)
    starts = re.findall(r"start_ray .* -- (ray start .*)$", flat, re.MULTILINE)
    assert len(starts) == 2
    for command in starts:
        check_ray(re.sub(r"\$\(\(.*?\)\)", "2000", f"{command} {common}"))
    (curate,) = re.findall(r"^(reel curate .*) &$", flat, re.MULTILINE)
    check_reel(curate)


@pytest.mark.parametrize(("linter", "name"), [("shellcheck", "slurm.sh"), ("hadolint", "Dockerfile")])
def test_linters_find_nothing(linter, name):
    found = shutil.which(linter, path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if found is None:
        pytest.skip(f"no {linter}: pip install {linter}-{'py' if linter == 'shellcheck' else 'bin'}")
    done = subprocess.run([found, DEPLOY / name], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


PROGRAMS = {  # of Slurm's and of ours, as far as the script sees of them; `reel` needs a moment to commit
    "scontrol": 'if [[ $1 = show ]]; then echo one; else echo "$@" >> said; fi',
    "scancel": 'echo "Ray ended" >> said; kill "$(cat step)"',  # with control groups, the first process alone
    "srun": 'echo $$ > step; while [[ $1 = --* ]]; do shift; done; exec "$@"',
    "hostname": "[[ $1 = --ip-address ]] && echo 127.0.1.1 || echo fe80::1 10.0.0.7",
    "ray": 'mkdir "$TMPDIR/ray"; touch "$TMPDIR/ray/ray_current_cluster"; exec /bin/sleep 60',
    "sleep": "",
    "reel": """trap '/bin/sleep 0.5; echo committed >> said; exit 3' TERM
               echo "$*" > asked; touch begun; while true; do /bin/sleep 0.05; done""",
}


@pytest.mark.parametrize(
    ("sent", "said"), [("USR1", ["committed", "Ray ended", "requeue 7"]), ("TERM", ["committed", "Ray ended"])]
)
def test_a_slurm_job_whose_time_is_over_commits_and_is_queued_again(sent, said, tmp_path):
    """And one that a person cancels commits and is not."""
    for name, body in PROGRAMS.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{body}\n")
        (tmp_path / name).chmod(0o755)
    variables = {"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "one", "SLURM_JOB_NUM_NODES": "1",
                 "SLURM_CPUS_PER_TASK": "2", "PATH": f"{tmp_path}:{os.environ['PATH']}"}  # fmt: skip
    job = subprocess.Popen(["bash", DEPLOY / "slurm.sh", "s3://in", "s3://store", "--recipe", "my own.yaml"],
                           cwd=tmp_path, env=os.environ | variables, start_new_session=True)  # fmt: skip
    try:
        until = time.monotonic() + 60
        while not (tmp_path / "begun").exists():
            assert job.poll() is None
            assert time.monotonic() < until
            time.sleep(0.05)
        job.send_signal(signal.Signals[f"SIG{sent}"])
        assert job.wait(60) == 3, "the status of the run"
    finally:
        with contextlib.suppress(ProcessLookupError):  # the script leaves nothing, unless this test failed
            os.killpg(job.pid, signal.SIGKILL)
        job.wait()
    assert (tmp_path / "said").read_text().splitlines() == said
    asked = (tmp_path / "asked").read_text().split(" ", 2)
    assert asked[:2] == ["curate", "s3://in"]
    assert "--store s3://store --address 10.0.0.7:" in asked[2], "an address that other nodes do not reach"
    assert asked[2].endswith("--recipe my own.yaml\n")
    assert "#SBATCH --signal=B:USR1@" in (DEPLOY / "slurm.sh").read_text()


def test_the_image_has_every_package_and_nothing_that_is_not_there():
    text = (DEPLOY / "Dockerfile").read_text()
    copied = {name for line in re.findall(r"^COPY (.*)$", text, re.MULTILINE) for name in line.split()[:-1]}
    assert all((ROOT / name).exists() for name in copied), copied
    assert {link.name for link in (ROOT / "src" / "reelwright").iterdir() if link.is_symlink()} <= copied
    assert re.search(r"^USER \d+$", text, re.MULTILINE), "it would run as root"
    installed = set(re.findall(r"install -y .*$", text, re.MULTILINE)[0].split())
    assert {"openssh-client", "rsync"} <= installed, "Ray's launcher copies files by them, into each container"
    assert "--no-deps -c constraints.txt opencv-python-headless" in text, "opencv-python needs a desktop's libraries"


def check_reel(command: str) -> None:
    """A command of `reel` with options that it has."""
    from reelwright.pipelines.cli.app import app
    from reelwright.pipelines.cli.main import load_commands

    load_commands()
    _, name, *arguments = shlex.split(command)
    group: Any = typer.main.get_command(app)
    group.commands[name].make_context(name, arguments)


def check_ray(command: str) -> None:
    """A command of `ray` with options that it has."""
    from ray.scripts.scripts import cli

    _, name, *arguments = shlex.split(command)
    cli.commands[name].make_context(name, [re.sub(r"\$\w+|\$\{.*?\}", "1", one) for one in arguments])
