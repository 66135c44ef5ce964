"""Keeps a user's own settings for matplotlib out: a bad one ends its import, and any other changes pictures.

What trains imports it too (torchmetrics does), so this comes before all of that.
"""

import contextlib
import os
import sys
import tempfile


def load_plainly() -> None:
    """Imports matplotlib in a place without settings, if the user has any; else it is imported when it is needed."""
    if "matplotlib" in sys.modules or not any(map(os.path.lexists, _theirs())):
        return
    before = dict(os.environ)
    # Who needs it says why it can't be loaded.
    with contextlib.suppress(Exception), contextlib.ExitStack() as stack:
        empty = stack.enter_context(tempfile.TemporaryDirectory())
        if os.path.lexists("matplotlibrc"):  # of the current folder, which goes before all that can be set
            stack.enter_context(contextlib.chdir(empty))
        try:
            os.environ.update({"MATPLOTLIBRC": os.devnull, "MPLCONFIGDIR": empty})
            import matplotlib.style  # noqa: F401  which reads the user's styles
        finally:
            os.environ.clear()
            os.environ.update(before)


def _theirs() -> list[str]:
    home = os.path.expanduser("~")  # noqa: PTH111  without a home it stays as it is
    base = os.environ.get("XDG_CONFIG_HOME") or f"{home}/.config"
    folders = (os.environ.get("MPLCONFIGDIR"), f"{base}/matplotlib", f"{home}/.matplotlib")
    inside = [f"{folder}/{name}" for folder in folders if folder for name in ("matplotlibrc", "stylelib")]
    return ["matplotlibrc", os.environ.get("MATPLOTLIBRC", ""), *inside]
