import json
import socket
from pathlib import Path

import huggingface_hub
import pytest
import timm
import torch
from safetensors.torch import load_file

from lightning_app.errors import BadInputError
from lightning_app.training.pretrained import load_pretrained, weights_sha256
from tests.conftest import CLASSES, MakeModel


def test_a_local_folder_is_loaded_with_its_own_transform(tiny_model: str) -> None:
    loaded = load_pretrained(tiny_model)
    assert loaded.classes.count == len(CLASSES)
    assert loaded.classes.wordnet_ids == ()
    assert not any(module.training for module in loaded.network.modules())
    assert all(parameter.requires_grad for parameter in loaded.network.parameters())
    assert loaded.transform_settings["input_size"] == [3, 32, 32]
    assert "Resize" in str(loaded.transform)


def test_a_thousand_classes_are_imagenets(make_model: MakeModel, tmp_path: Path) -> None:
    network = timm.create_model("test_resnet", num_classes=1000)
    folder = tmp_path / "imagenet"
    timm.models.save_for_hf(network, folder, safe_serialization=True)
    classes = load_pretrained(f"local-dir:{folder}").classes
    assert (classes.count, classes.subset) == (1000, "imagenet-1k")
    assert classes.wordnet_ids[0] == "n01440764"
    assert len(classes.wordnet_ids) == 1000


def test_the_digest_sees_every_bit(tiny_model: str) -> None:
    first, second = load_pretrained(tiny_model).network, load_pretrained(tiny_model).network
    digest = weights_sha256(first)
    assert digest == weights_sha256(second)
    with torch.no_grad():
        parameter = next(second.parameters())
        parameter.view(-1)[0] = torch.nextafter(parameter.view(-1)[0], torch.tensor(9.0))
    assert weights_sha256(second) != digest
    buffer = next(first.buffers())
    buffer += 1
    assert weights_sha256(first) != digest


def test_an_unknown_name_offers_near_ones() -> None:
    with pytest.raises(BadInputError, match=r"timm has no 'resnet34.a3_in1'; near names: .*resnet34.a3_in1k"):
        load_pretrained("resnet34.a3_in1")


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ("no folder", "can't be loaded: .*expected a folder with config.json and model.safetensors"),
        ("no weights", "can't be loaded"),
        ("bad json", "can't be loaded"),
        ("other shape", "can't be loaded: .*size mismatch"),
        ("damaged weights", "can't be loaded"),
    ],
)
def test_a_folder_that_is_none(make_model: MakeModel, broken: str, message: str) -> None:
    name = make_model("test_resnet")
    folder = Path(name.removeprefix("local-dir:"))
    if broken == "no folder":
        name += "-elsewhere"
    elif broken == "no weights":
        (folder / "model.safetensors").unlink()
    elif broken == "bad json":
        (folder / "config.json").write_text("{")
    elif broken == "damaged weights":
        (folder / "model.safetensors").write_bytes(b"\0" * 100)
    else:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "num_classes": 7}))
    with pytest.raises(BadInputError, match=message):
        load_pretrained(name)


def test_no_network_says_how_to_give_a_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def no_name(*args: object) -> None:
        raise OSError("Name or service not known")

    for variable in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(socket, "getaddrinfo", no_name)
    with pytest.raises(BadInputError, match=r"weights can't be had: .*--model_name local-dir:FOLDER"):
        load_pretrained("resnet18.a1_in1k")


def test_a_network_without_classes_is_refused(make_model: MakeModel) -> None:
    name = make_model("test_resnet")
    config = Path(name.removeprefix("local-dir:")) / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "num_classes": 0}))
    with pytest.raises(BadInputError):
        load_pretrained(name)


class Trap:
    """Leaves a file behind where it is unpickled."""

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (Path("sprung"),)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.safetensors"])
def test_a_checkpoint_is_weights_and_nothing_else(make_model: MakeModel, name: str) -> None:
    model = make_model("test_resnet")
    folder = Path(model.removeprefix("local-dir:"))
    (folder / "model.safetensors").unlink()
    torch.save({"state_dict": Trap()}, folder / name)
    with pytest.raises(BadInputError, match=r"can't be loaded: "):
        load_pretrained(model)
    assert not Path("sprung").exists()
    with pytest.raises(Exception, match=r"Weights only|deserializing header"):  # also where somebody asks for more
        torch.load(folder / name, weights_only=False)
    assert not Path("sprung").exists()


def test_a_checkpoint_of_torchs_own_format_is_loaded(make_model: MakeModel) -> None:
    model = make_model("test_resnet")
    folder = Path(model.removeprefix("local-dir:"))
    digest = weights_sha256(load_pretrained(model).network)
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    assert weights_sha256(load_pretrained(model).network) == digest
