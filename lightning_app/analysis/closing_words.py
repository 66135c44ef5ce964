"""What `run` says at its end, and the words that every report of numbers shares."""

import math

from lightning_app.analysis.closing import Closing

FEWEST = 5
"""Examples, of which something may be said."""


def words(closing: Closing) -> str:
    """The closing table and, where most examples did not reach epsilon, what to change."""
    counts = ", ".join(f"{count} {outcome}" for outcome, count in closing.counts.items())
    lines = [
        f"Outcomes: {counts}",
        "",
        f"{'loss at or below':>16}  {'reached':>7}  {'median steps':>12}  Spearman with difficulty",
    ]
    for line in closing.lines:
        lines.append(
            f"{line.label:>16}  {line.reached:>7}  {median_in_words(line.median_steps, closing):>12}"
            f"  {line.correlation}{p_in_words(line.association.p, ', p ')}"
        )
        if line.without_diverged is not None:
            lines.append(f"{'without diverged':>16}  {'':>7}  {'':>12}  {line.without_diverged.spearman}")
    lines.append("Above 0: harder images take more steps. Not reached counts as more than every number of steps.")
    advice = _advice(closing)
    return "\n".join([*lines, *(["", advice] if advice else [])])


def median_in_words(median: float, closing: Closing) -> str:
    """A median of steps for people.

    Args:
        median: Infinite where at least half have not reached it.
        closing: Of the study.
    """
    if math.isinf(median):
        return f"> {closing.limit:,}" if closing.says_limit else "not reached"
    return "none" if math.isnan(median) else f"{median:,g}"


def p_in_words(p: float, before: str = "") -> str:
    """A p value for people; nothing where it is undefined.

    Args:
        p: The value.
        before: What stands before it, such as `p `; then with an equals sign.
    """
    if math.isnan(p):
        return ""
    return before + ("< 0.001" if p < 0.001 else f"{'= ' if before else ''}{p:.3f}")


def answer(closing: Closing) -> str:
    """The study's answer in a sentence."""
    line = closing.at_epsilon
    found = line.correlation
    to = loss_in_words(closing.epsilon)
    if found.n < FEWEST:
        return f"too few images to say whether harder ones take more steps (n = {found.n})"
    if math.isnan(found.value):
        within = f" in {closing.limit:,} steps" if closing.says_limit else ""
        why = found.why if line.reached else f"none came to {to}{within}"
        return f"nothing can be said of whether harder images take more steps: {why} (n = {found.n:,})"
    if math.isnan(found.low):
        return f"whether harder images take more steps to {to} can't be told: Spearman {found}, {found.why}"
    if found.low > 0:
        said = "harder images tend to take more steps"
    elif found.high < 0:
        said = "harder images tend to take fewer steps"
    else:
        said = f"{found.n:,} images can't tell whether harder ones take more steps"
    return f"{said} to {to}: Spearman {found}"


def loss_in_words(epsilon: float) -> str:
    """An epsilon for people, also one that nobody knows."""
    return f"a loss of {epsilon:g}" if epsilon == epsilon else "its epsilon"


def _advice(closing: Closing) -> str:
    """A plain sentence for a study in which most examples did not reach epsilon."""
    n, missed, diverged = closing.at_epsilon.association.n, closing.at_epsilon.not_reached, closing.counts["diverged"]
    if missed * 2 <= n:
        return ""
    if diverged * 2 > missed:
        return f"Most examples did not reach epsilon, and {diverged} of {n} diverged: choose a smaller --lr."
    better = [line for line in closing.lines[:-1] if line.name != "ln2" and line.reached * 2 > n]
    within_reach = (
        f"--epsilon {better[-1].threshold:g} was reached by {better[-1].reached} of {n} in the same steps"
        if better
        else "no threshold below ln 2 was reached by half of them in these steps, so try a larger --lr"
    )
    return (
        f"Most examples ({missed} of {n}) did not reach {loss_in_words(closing.epsilon)} in"
        f" {closing.limit} steps, so this says little about their order. Below a loss of about 1e-2 plain SGD on one"
        " image needs ten times the steps for a tenth of the loss: choose a larger --epsilon, a larger --lr or more"
        f" --max_steps_per_example ({within_reach})."
    )
