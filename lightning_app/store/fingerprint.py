"""Refuses to mix: a study is resumed only where its numbers would be the same."""

from lightning_app.data.environment import Content, Difference, differences, format_differences
from lightning_app.errors import BadInputError
from lightning_app.store.study_log import StoredStudy


def require_same(existing: StoredStudy, identity: Content, environment: Content, mixed: bool) -> None:
    """Refuses to resume a study whose numbers would be others.

    Args:
        existing: The study that is there.
        identity: What the command asks for.
        environment: Where it runs.
        mixed: Whether another environment is allowed.

    Raises:
        BadInputError: With every key that differs, old and new.
    """
    if differing := differences(existing.identity, identity):
        raise BadInputError(
            f"it has another identity: {format_differences(differing)}. --output_dir puts this study elsewhere,"
            f" --overwrite moves that one aside{_way_to_another_epsilon(differing)}"
        )
    others = [differences(there, environment) for there in existing.environments_in_use]
    if not mixed and any(others):
        differing = next(filter(None, others))
        raise BadInputError(
            f"its rows were made in another environment: {format_differences(differing)}. The last bits of new rows may"
            " differ: --allow_mixed_environment resumes it all the same, --output_dir puts this study elsewhere"
        )


def _way_to_another_epsilon(differing: list[Difference]) -> str:
    old, new = next(((old, new) for key, old, new in differing if key == "epsilon"), (None, None))
    if len(differing) > 1 or not (isinstance(old, float) and isinstance(new, float)):
        return ""
    if new < old:
        return f". The examples there stopped at {old:g}, so that a smaller epsilon has to be trained anew"
    return (
        f". No training is needed for it: every loss is there, and steps-to-epsilon report FOLDER --epsilon {new:g}"
        f" finds the first step with one of {new:g} or less"
    )
