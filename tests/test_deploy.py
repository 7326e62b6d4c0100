"""The files of `deploy/`: schemas, the commands that they call, and versions. No cluster is started."""

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import typer
import yaml

from tests.conftest import ROOT

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
     "volumes": {"type": "array", "items": closed({"name": TEXT, "emptyDir": closed({"sizeLimit": TEXT})})}},
)})  # fmt: skip
WORKERS = closed({"groupName": TEXT, "replicas": COUNT, "minReplicas": COUNT, "maxReplicas": COUNT,
                  "rayStartParams": TEXTS, "template": POD})  # fmt: skip
RAY_JOB = closed({
    "apiVersion": {"const": "ray.io/v1"}, "kind": {"const": "RayJob"}, "metadata": closed({"name": TEXT}),
    "spec": closed({
        "entrypoint": TEXT, "shutdownAfterJobFinishes": {"type": "boolean"}, "ttlSecondsAfterFinished": COUNT,
        "backoffLimit": COUNT,
        "rayClusterSpec": closed({
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
        assert {v["name"] for v in container["env"] if "valueFrom" in v} >= {"AWS_SECRET_ACCESS_KEY", "RAY_AUTH_TOKEN"}
        mounts = {mount["name"] for mount in container.get("volumeMounts", ())}
        assert mounts == {volume["name"] for volume in pod["template"]["spec"].get("volumes", ())}
    check_reel(job["spec"]["entrypoint"])
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(job | {"spec": job["spec"] | {"entryPoint": "reel"}}, RAY_JOB)


def test_ray_s_version_is_one_everywhere():
    pinned = re.search(r"^ray==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert pinned
    assert loaded("rayjob.yaml")["spec"]["rayClusterSpec"]["rayVersion"] == pinned[1]
    assert "constraints.txt" in (DEPLOY / "Dockerfile").read_text()


def test_the_launcher_s_file_fits_ray_s_own_schema():
    import ray

    schema = json.loads((Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text())
    cluster = loaded("cluster.yaml")
    jsonschema.validate(cluster, schema)
    assert cluster["head_node_type"] in cluster["available_node_types"]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(cluster | {"max_worker": 1}, schema)
    for line in cluster["head_start_ray_commands"] + cluster["worker_start_ray_commands"]:
        check_ray(line)


def test_the_script_for_slurm_parses_and_calls_what_there_is():
    script = (DEPLOY / "slurm.sh").read_text()
    subprocess.run(["bash", "-n", DEPLOY / "slurm.sh"], check=True)
    if shutil.which("shellcheck"):
        subprocess.run(["shellcheck", DEPLOY / "slurm.sh"], check=True)
    flat = script.replace("\\\n", " ")
    commands = re.findall(r"^\s+(ray start .*?|reel .*?)(?: &)?$", re.sub(r"srun .*? (?=ray start|reel )", "  ", flat),
                          re.MULTILINE)  # fmt: skip
    assert len(commands) == 3, commands
    for command in commands:
        (check_reel if command.startswith("reel") else check_ray)(command)


def test_the_image_has_every_package_and_nothing_that_is_not_there():
    text = (DEPLOY / "Dockerfile").read_text()
    copied = {name for line in re.findall(r"^COPY (.*)$", text, re.MULTILINE) for name in line.split()[:-1]}
    assert all((ROOT / name).exists() for name in copied), copied
    assert {link.name for link in (ROOT / "src" / "reelwright").iterdir() if link.is_symlink()} <= copied
    assert re.search(r"^USER reel$", text, re.MULTILINE), "it would run as root"


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
