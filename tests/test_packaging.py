"""What `pip install .` gives a user, and a checkout that nothing has installed."""

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from lightning_app import __version__

REPOSITORY = Path(__file__).parents[1]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The names in the wheel, built from a copy of what git would give."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("lightning_app", "pyproject.toml", "README.md", "LICENSE"):
        subprocess.run(["cp", "-r", str(REPOSITORY / name), str(source)], check=True)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(source)]
    subprocess.run(command, check=True, capture_output=True)
    (file,) = out.glob("*.whl")
    return set(zipfile.ZipFile(file).namelist())


def test_the_wheel_holds_every_module_config_and_part_of_the_page_and_nothing_else(wheel: set[str]) -> None:
    package = REPOSITORY / "lightning_app"
    kinds = (".py", ".yaml", ".html", ".css", ".js")
    ours = {f.relative_to(REPOSITORY).as_posix() for f in package.rglob("*") if f.suffix in kinds}
    assert {name for name in wheel if ".dist-info/" not in name} == ours
    assert {"lightning_app/configs/digits.yaml", "lightning_app/report/browser/report.js"} <= ours


def test_there_is_one_version(wheel: set[str]) -> None:
    assert f"steps_to_epsilon-{__version__}.dist-info/METADATA" in wheel
    assert f"version: {__version__}\n" in (REPOSITORY / "CITATION.cff").read_text()


def test_a_checkout_that_nothing_has_installed_knows_its_version(tmp_path: Path) -> None:
    shutil.copytree(REPOSITORY / "lightning_app", tmp_path / "lightning_app")

    def without_packages(*words: str) -> str:  # -S: of what is installed nothing can be found, this neither
        command = [sys.executable, "-S", *words]
        alone = {**os.environ, "PYTHONPATH": str(tmp_path)}
        return subprocess.run(command, env=alone, capture_output=True, text=True, check=True).stdout

    with pytest.raises(subprocess.CalledProcessError):
        without_packages("-c", "from importlib.metadata import version; version('steps-to-epsilon')")
    assert without_packages("-m", "lightning_app", "--version") == f"steps-to-epsilon {__version__}\n"
    where = without_packages("-c", "import lightning_app; print(lightning_app.__file__)")
    assert where == f"{tmp_path / 'lightning_app' / '__init__.py'}\n"


GPU_MACHINE = {"torch": "2.11.0", "torchvision": "0.26.0", "lightning": "2.6.6", "numpy": "2.5.2"}


@pytest.mark.parametrize("name", GPU_MACHINE)
def test_the_bounds_admit_the_versions_of_gpu_machines_in_use(name: str) -> None:
    (requirement,) = (r for r in map(Requirement, PROJECT["dependencies"]) if r.name == name)
    assert requirement.specifier.contains(GPU_MACHINE[name])
    assert "3.12" in Requirement(f"python{PROJECT['requires-python']}").specifier


@pytest.mark.parametrize("version", ["2.6.2", "2.6.3"])
def test_the_malicious_releases_of_lightning_are_excluded(version: str) -> None:
    (requirement,) = (r for r in map(Requirement, PROJECT["dependencies"]) if r.name == "lightning")
    assert not requirement.specifier.contains(version)
