"""Where numbers are made (their environment), and how two environments or identities differ."""

import json
import platform
from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from lightning_app import __version__
from lightning_app.files import flat

Content = dict[str, Any]
"""A JSON object."""
PACKAGES = ("torch", "torchvision", "timm", "lightning", "pillow", "numpy")
VERSIONS = ("python", "steps-to-epsilon", *PACKAGES)


def versions() -> dict[str, str]:
    """Python's version and those of the packages that a number depends on."""
    ours = {"python": platform.python_version(), "steps-to-epsilon": __version__}
    return ours | {name: _version(name) for name in PACKAGES}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # installed under another name, as pillow-simd is, or only put on the path
        module = "PIL" if package == "pillow" else package
    try:
        return str(import_module(module).__version__)
    except (ImportError, AttributeError):
        return "unknown"


def environment(device_name: str, threads: int, instructions: str | None = None) -> dict[str, object]:
    """Versions, the model of CPU or GPU, the number of CPU threads, and the CPU's instructions where it trains."""
    return {
        **versions(),
        "device": _cpu_model() if device_name == "cpu" else device_name,
        "cpu_threads": threads,
        "machine": platform.machine(),
        **({} if instructions is None else {"cpu_instructions": instructions}),
    }


Difference = tuple[str, object, object]


def number_of(environment: Content, known: Mapping[int, Content]) -> int | None:
    """The number of an environment among those that are known; None where it is a new one."""
    # Mostly they are equal as they are, which is soon told.
    same = (number for number, there in known.items() if there == environment or not differences(there, environment))
    return next(same, None)


def format_differences(differing: list[Difference], where: object = None, and_where: object = None) -> str:
    """Differences in words: what was and what is, or what is here and there."""
    if where is not None:
        return "; ".join(f"{key} is {_short(a)} in {where}, {_short(b)} in {and_where}" for key, a, b in differing)
    return "; ".join(f"{key} was {_short(old)}, is {_short(new)}" for key, old, new in differing)


def _short(value: object) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 100 else text[:97] + "..."


def differences(old: object, new: object) -> list[Difference]:
    """Every key of two JSON objects whose value differs; a key inside a key is joined to it by a dot."""
    mine, theirs = (dict(flat(json.loads(json.dumps(value, default=str)))) for value in (old, new))
    absent = "(absent)"
    keys = dict.fromkeys((*mine, *theirs))
    pairs = [(key, mine.get(key, absent), theirs.get(key, absent)) for key in keys]
    return [pair for pair in pairs if json.dumps(pair[1]) != json.dumps(pair[2])]  # as text: NaN equals itself


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
