"""What an installed reelwright adds to an environment."""

import subprocess
import sys

import pytest

PACKAGES = ["curation", "annotate", "model", "kernels", "training", "evaluation", "pipelines"]


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_is_found_under_the_one_name_only(package, tmp_path):
    """Bare, `kernels` is Hugging Face's, and a folder with a `model.py` would hide ours."""
    found_both = f"bool(find('reelwright.{package}')), bool(find('{package}'))"
    code = f"from importlib.util import find_spec as find; print(({found_both}))"
    found = subprocess.check_output([sys.executable, "-I", "-c", code], cwd=tmp_path, text=True)
    assert found.split() == ["(True,", "False)"]


def test_a_module_of_the_user_with_a_package_s_name_hides_nothing(tmp_path):
    for package in PACKAGES:
        (tmp_path / f"{package}.py").write_text("raise ImportError('the user\\'s own module')\n")
    done = subprocess.run(
        [sys.executable, "-m", "reelwright.pipelines.cli", "--help"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
