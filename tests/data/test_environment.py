import platform
import sys
from importlib.metadata import PackageNotFoundError, version

import lightning
import numpy
import PIL
import pytest
import torch

from lightning_app import __version__
from lightning_app.data import environment as module


def test_a_package_whose_distribution_is_not_found_is_asked_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing_is_installed(distribution: str) -> str:
        raise PackageNotFoundError(distribution)

    monkeypatch.setattr(module, "version", nothing_is_installed)
    monkeypatch.setitem(sys.modules, "torchvision", None)  # as if it weren't there
    monkeypatch.delattr("timm.__version__")
    assert module.versions() == {
        "python": platform.python_version(), "steps-to-epsilon": __version__, "torch": torch.__version__,
        "torchvision": "unknown", "timm": "unknown", "lightning": lightning.__version__,
        "pillow": PIL.__version__, "numpy": numpy.__version__,
    }  # fmt: skip


def test_the_versions_are_those_of_the_distributions() -> None:
    found = module.versions()
    assert list(found)[:2] == ["python", "steps-to-epsilon"]
    assert found["pillow"] == version("pillow")
