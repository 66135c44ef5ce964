"""What a study's numbers depend on (its identity) and where they were made (its environment)."""

import hashlib
import json
import platform
from importlib.metadata import version
from pathlib import Path

PACKAGES = ("steps-to-epsilon", "torch", "torchvision", "timm", "lightning", "pillow", "numpy")


def versions() -> dict[str, str]:
    """Python's version and those of the packages that a number depends on."""
    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}


def environment(device_name: str, threads: int) -> dict[str, object]:
    """Versions, the model of CPU or GPU, and the number of CPU threads."""
    return {
        **versions(),
        "device": _cpu_model() if device_name == "cpu" else device_name,
        "cpu_threads": threads,
        "machine": platform.machine(),
    }


def file_sha256(file: Path) -> str:
    """A file's digest."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def fingerprint_text(identity: dict[str, object], environment: dict[str, object]) -> str:
    """The text of `run.json`: the identity, and an environment for each stretch of rows."""
    stretches = [{"first_row": 0, "environment": environment}]
    return json.dumps({"format": 1, "identity": identity, "stretches": stretches}, indent=2, default=str) + "\n"


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
