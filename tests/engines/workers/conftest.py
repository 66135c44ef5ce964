"""The long study, and its files by one device: what studies by several workers are compared with."""

from pathlib import Path

import pytest

from tests.conftest import MakeModel
from tests.engines.workers.studies import by_one_device, long_study


@pytest.fixture(scope="module")
def flags(make_model: MakeModel, photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return long_study(make_model, photographs, tmp_path_factory.mktemp("ranking"))


@pytest.fixture(scope="module")
def by_one(flags: list[str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return by_one_device(flags, tmp_path_factory.mktemp("one"))
