"""Loads a pretrained timm classifier with its own evaluation transform, and asks it about an image."""

import contextlib
import hashlib
import logging
import os
import socket
import textwrap
import threading
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import huggingface_hub
import timm
import torch
from PIL import Image
from timm.data import ImageNetInfo, create_transform, infer_imagenet_subset, resolve_model_data_config
from torch import Tensor, nn

from lightning_app.data.image import read_pixels
from lightning_app.data.labels import Classes
from lightning_app.data.model_names import LOCAL, local_folder
from lightning_app.errors import BadInputError, did_you_mean
from lightning_app.files import OutsideError, json_as, read_regular
from lightning_app.training.loss import is_correct

log = logging.getLogger("lightning_app")

CONFIG = "config.json"
SLOW_SECONDS = 10.0
LARGE_PIXELS = 1024
"""A side of a model's input that is worth a word before anything is done with it."""
LARGE_PARAMETERS = 2 * 10**8
MAX_CLASSES = 10**6

Transform = Callable[[Image.Image], Tensor]
"""An RGB image to a float32 tensor, shape (3, H, W)."""


@dataclass(frozen=True)
class Pretrained:
    """A classifier as it was published.

    Args:
        network: In eval mode, gradients on, on the CPU.
        transform: timm's evaluation transform for it.
        transform_settings: What that transform was made from; part of a study's identity.
        classes: What it tells apart.
    """

    network: nn.Module
    transform: Transform
    transform_settings: dict[str, object]
    classes: Classes


def load_pretrained(model_name: str, flag: str = "model_name") -> Pretrained:
    """Loads a model by timm's name, `hf-hub:...` or `local-dir:FOLDER`.

    Args:
        model_name: The name.
        flag: The option that gave it, for messages.

    Raises:
        BadInputError: If there is no such model, or its weights can't be had, or it is no classifier of colour images.
    """
    os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"  # older timm would unpickle whatever a checkpoint holds
    folder = local_folder(model_name)
    if folder is None:
        _leave_the_hub_alone_when_offline()
    try:
        if folder is not None:
            _read_config(folder)
        with _said_when_slow(f"--{flag} {model_name} takes long to load: a large network, a slow disk or connection"):
            network = timm.create_model(model_name if folder is None else f"{LOCAL}{folder}", pretrained=True)
    # timm, the hub and safetensors raise unrelated types for a name, a folder or weights that they can't use.
    except Exception as error:
        raise BadInputError(_why_not(model_name, flag, error)) from error
    network.eval()
    _keep_no_caches(network)
    count = int(getattr(network, "num_classes", 0) or 0)
    require_classifier = f"--{flag} {model_name} must be a classifier of colour images with two classes or more"
    if count < 2:
        raise BadInputError(f"{require_classifier}, it has {count} classes")
    try:
        settings = resolve_model_data_config(network)
        channels, *size = settings["input_size"]
        transform = create_transform(**settings, is_training=False)
    except Exception as error:  # whatever a configuration can hold that has no meaning as an image's size, crop, ...
        raise BadInputError(
            f"--{flag} {model_name}: its configuration gives no transform of images: {error!r}"
        ) from error
    if channels != 3:
        raise BadInputError(f"{require_classifier}, its input has {channels} channels")
    classes = classes_of(count, label_names_in(network.pretrained_cfg))
    _try_out(network, transform, size, classes, f"--{flag} {model_name}")
    return Pretrained(network, transform, settings, classes)


def _read_config(folder: Path) -> dict[str, Any]:
    """The configuration of a folder's model, and a look at its other files: timm would wait for a pipe for ever."""
    config = json_as(dict[str, Any], read_regular(folder / CONFIG))
    for file in folder.iterdir():
        if not (file.is_file() or file.is_dir()):
            raise OutsideError(f"{file} is no regular file")
    return config


@contextlib.contextmanager
def _said_when_slow(words: str) -> Iterator[None]:
    timer = threading.Timer(SLOW_SECONDS, log.warning, ("%s", words))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@torch.no_grad()
def _try_out(network: nn.Module, transform: Transform, size: Sequence[int], classes: Classes, model: str) -> None:
    """Sees that a model takes an image of its own size, before a study or a pool is begun with it."""
    if max(size) > LARGE_PIXELS:
        log.warning("%s takes images of %d x %d pixels: a step may take minutes, and many gigabytes", model, *size)
        return
    if sum(parameter.numel() for parameter in network.parameters()) > LARGE_PARAMETERS:
        return  # on a CPU it would take long
    try:
        pixels = transform(Image.new("RGB", (64, 48)))[None]
        logits = network(pixels)
        shapes = tuple(pixels.shape[1:]), tuple(logits.shape)
    except Exception as error:  # whatever architectures and transforms raise
        reason = textwrap.shorten(f"{type(error).__name__}: {error}", 300)
        raise BadInputError(f"{model} can't take an image of its own size, {size}: {reason}") from error
    if shapes[1] != (1, classes.count):
        raise BadInputError(
            f"{model} must give a number for each of its {classes.count} classes, it gives {shapes[1]} for an image of"
            f" {shapes[0]}"
        )


def classes_by_config(model_name: str) -> Classes | None:
    """What a model tells apart, by its configuration alone, without its weights; None where that doesn't say."""
    try:
        folder = local_folder(model_name)
        if folder is not None:
            config = _read_config(folder)
            own = config.get("pretrained_cfg", config)
            count = config.get("num_classes") or own["num_classes"]
            names = config.get("label_names") or own.get("label_names") or own.get("labels")
        else:
            own = timm.models.get_pretrained_cfg(timm.models.parse_model_name(model_name)[1])
            count, names = own.num_classes, own.label_names
        return classes_of(int(count), label_names_in({"label_names": names}))
    except Exception:  # whatever is wrong is said when the model itself is loaded
        return None


def label_names_in(config: Mapping[str, Any]) -> tuple[str, ...]:
    """What a model's configuration calls its classes, in their order.

    Args:
        config: timm's `pretrained_cfg`; its `label_names` is a list, or names by index, of which some may be missing.

    Returns:
        Empty names for classes without one; nothing where the configuration has none that can be used.
    """
    names = config.get("label_names")
    if not names:
        return ()
    try:
        known = {int(index): name for index, name in (names.items() if isinstance(names, dict) else enumerate(names))}
        if all(isinstance(name, str) for name in known.values()) and min(known) >= 0 and max(known) < MAX_CLASSES:
            return tuple(known.get(index, "") for index in range(max(known) + 1))
    except (TypeError, ValueError):
        pass
    log.warning("the model's label_names can't be read as names of its classes and are not used")
    return ()


def classes_of(count: int, label_names: Sequence[str] = ()) -> Classes:
    """The classes of a model by their number, as timm guesses the ImageNet subset, and by its own names for them."""
    subset = infer_imagenet_subset({"num_classes": count})
    wordnet_ids = tuple(ImageNetInfo(subset).label_names()) if subset is not None else ()
    return Classes(count, subset, wordnet_ids, tuple(label_names))


def weights_sha256(network: nn.Module) -> str:
    """A digest of all parameters and buffers, by name."""
    digest = hashlib.sha256()
    for name, tensor in sorted([*network.named_parameters(), *network.named_buffers()], key=lambda item: item[0]):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _keep_no_caches(network: nn.Module) -> None:
    # LeViT and its kin keep attention biases between forward passes in eval mode, from weights that have moved since.
    keepers: list[Any] = [module for module in network.modules() if hasattr(module, "attention_bias_cache")]

    def forget(module: nn.Module, inputs: object) -> None:
        for keeper in keepers:
            keeper.attention_bias_cache.clear()

    if keepers:
        network.register_forward_pre_hook(forget)


def _leave_the_hub_alone_when_offline() -> None:
    # Without this, a machine without a network waits most of a minute while the hub's client tries again and again;
    # weights that are in its cache are found either way. Behind a proxy a name need not resolve, so it is not asked.
    if urllib.request.getproxies():
        return
    try:
        socket.getaddrinfo(urlsplit(huggingface_hub.constants.ENDPOINT).hostname, 443)
    except OSError:
        huggingface_hub.constants.HF_HUB_OFFLINE = True
        log.debug("no network: pretrained weights come from the cache or a folder")


def _why_not(model_name: str, flag: str, error: Exception) -> str:
    reason = textwrap.shorten(str(error), 400)
    if "Unknown model" in reason or "Invalid pretrained tag" in reason:
        return f"--{flag}: timm has no {model_name!r}{did_you_mean(model_name, timm.list_models(pretrained=True))}"
    if model_name.startswith(LOCAL):
        return (
            f"--{flag} {model_name} can't be loaded: {reason} (expected a folder with config.json and"
            " model.safetensors, as timm saves it)"
        )
    return (
        f"--{flag} {model_name}: its pretrained weights can't be had: {reason} Without a network, give a folder"
        f" with config.json and model.safetensors as --{flag} local-dir:FOLDER"
    )


@torch.no_grad()
def predict(
    network: nn.Module, transform: Transform, image: Path, label: int, device: torch.device
) -> tuple[bool, int]:
    """One forward pass at batch 1.

    Args:
        network: In eval mode, on the device.
        transform: timm's evaluation transform.
        image: The file.
        label: Class index.
        device: Where the network is.

    Returns:
        Whether the label's logit is above every other, and the class with the largest.

    Raises:
        UnreadableImageError: If the file can't be decoded.
    """
    pixels = read_pixels(image, transform)[None].to(device)
    logits = network(pixels)
    return bool(is_correct(logits, torch.tensor([label], device=device)).item()), int(logits.argmax(dim=1).item())
