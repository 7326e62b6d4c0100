"""The Triton kernels, by attention_cases.py and selection_cases.py: interpreted on the CPU, compiled on a GPU."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[3]
pytest.importorskip("triton")


@pytest.mark.parametrize("which", ["not exhaustive", pytest.param("exhaustive", marks=pytest.mark.exhaustive)])
def test_they_are_right_under_the_interpreter(which):
    """In a process of its own: the interpreter is chosen when the kernels are made."""
    cases = ["tests/kernels/triton/attention_cases.py", "tests/kernels/triton/selection_cases.py"]
    command = [sys.executable, "-m", "tests.kernels.triton.interpreted", "-m", which, *cases]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, env=None)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]


if torch.cuda.is_available():
    from tests.kernels.triton.attention_cases import *  # noqa: F403
    from tests.kernels.triton.gpu_cases import *  # noqa: F403
    from tests.kernels.triton.selection_cases import *  # noqa: F403
