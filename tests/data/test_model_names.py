import contextlib
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from lightning_app.data.model_names import local_folder, name_in_pool, split_models
from lightning_app.errors import BadInputError

NAMES = ["resnet18.a1_in1k", "hf-hub:timm/x", "local-dir:models/mine"]


@pytest.mark.parametrize(
    "models", [",".join(NAMES), NAMES, " , ".join(NAMES) + ",", "list.txt", "list.yaml", "dict.yml", ["list.txt"]]
)
def test_models_come_in_a_line_a_list_or_a_file(models: str | Sequence[str]) -> None:
    Path("list.txt").write_text(f"# the pool\n{NAMES[0]}  # best\n\n{NAMES[1]},{NAMES[2]}\n")
    Path("list.yaml").write_text("".join(f"- {name}\n" for name in NAMES))
    Path("dict.yml").write_text("models:\n" + "".join(f"  - {name}\n" for name in NAMES))
    assert split_models(models) == NAMES


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"--models names no model: expected A,B,"),
        ("a,b,a", "--models names a 2 times"),
    ],
)
def test_a_list_of_nothing_and_a_name_twice_are_refused(content: str, message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        split_models(content)


@pytest.mark.parametrize("text", ["a: b", "- [a]", "- 3", "[", "word"])
def test_yaml_of_another_form_is_refused(text: str) -> None:
    Path("m.yaml").write_text(text)
    with pytest.raises(
        BadInputError, match=r"--models m.yaml (must be a YAML list of model names|can't be read: it is)"
    ):
        split_models("m.yaml")


def test_a_pool_calls_a_local_model_by_its_folders_own_name() -> None:
    Path("real").mkdir()
    Path("link").symlink_to("real")
    assert name_in_pool("local-dir:link") == name_in_pool("local-dir:real/") == "real"
    assert name_in_pool("hf-hub:timm/x") == "hf-hub:timm/x"


def test_a_local_model_may_lie_in_the_users_home() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(Path.cwd()))
        Path("real").mkdir()
        Path("link").symlink_to("real")
        assert local_folder("local-dir:~/link") == Path.cwd() / "link"
        assert name_in_pool("local-dir:~/link") == "real"
        assert local_folder("resnet18") is None


@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(content=st.binary() | st.text().map(str.encode), suffix=st.sampled_from(["txt", "yaml"]))
def test_any_file_is_a_list_of_names_or_one_error(tmp_path: Path, content: bytes, suffix: str) -> None:
    file = tmp_path / f"list.{suffix}"
    file.write_bytes(content)
    with contextlib.suppress(BadInputError):
        names = split_models(str(file))
        assert names == [name.strip() for name in names]
        assert all(names)
        assert len(set(names)) == len(names)
