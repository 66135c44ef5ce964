"""steps-to-epsilon: how many SGD steps on one image drive a pretrained classifier's loss to epsilon?"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lightning_app.analysis.load import load_results, load_steps

__all__ = ["load_results", "load_steps"]
__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    # Not imported above: the command line answers before pandas is loaded.
    if name in __all__:
        from lightning_app.analysis import load

        return getattr(load, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
