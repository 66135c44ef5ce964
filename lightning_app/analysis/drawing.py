"""Draws what may fail: numbers neither wait for a picture nor end with it."""

import logging
from collections.abc import Sequence

log = logging.getLogger("lightning_app")


def drawn(name: str, *of: object, kinds: Sequence[str] = ("png",)) -> dict[str, bytes]:
    """Draws one of the pictures of `plots`; whatever goes wrong is a warning.

    Args:
        name: The function there.
        of: What it takes.
        kinds: See `plots.as_file`.

    Returns:
        The content of a file for each kind; nothing where there is nothing to draw, or it can't be drawn.
    """
    files: dict[str, bytes] = {}
    try:
        from lightning_app.analysis import plots  # here and not above: matplotlib itself may not load

        figure = getattr(plots, name)(*of)
        for kind in kinds if figure is not None else ():
            files[kind] = plots.as_file(figure, kind)
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        log.warning("the picture %s can't be drawn and is left out: %s", name, reason)
    return files
