"""What a report says before any number: what was measured, what it says, what it can't say."""

import math
from collections.abc import Sequence

from lightning_app.analysis.load import Metadata, Study
from lightning_app.analysis.statistics import MIN_CLASSES, Estimate, pairs_to_see, smallest_visible
from lightning_app.analysis.summary import SMALL_CORRELATIONS, Summary, answer, format_median, format_p
from lightning_app.data.model_names import name_in_pool

UNKNOWN = "not known"
WHAT_WAS_DRAWN = {
    "wrong": "images that the model got wrong",
    "correct": "images that the model got right",
    "all": "images, right or wrong,",
}


def paragraphs(study: Study, summary: Summary) -> list[str]:
    """The report of one study in words."""
    return [" ".join(_measured(study, summary)), " ".join(_says(summary)), " ".join(_cannot_say(study, summary))]


def _measured(study: Study, summary: Summary) -> list[str]:
    metadata, counts, line = study.metadata, summary.counts, summary.at_epsilon
    n = line.association.n
    who = name_in_pool(metadata.model_name) if metadata.model_name else study.name
    lr = f" with a learning rate of {metadata.lr:g}" if metadata.lr is not None else ""
    drawn = WHAT_WAS_DRAWN.get(metadata.select, "images")
    epsilon = f"{summary.epsilon:g}" if summary.epsilon == summary.epsilon else "epsilon"
    diverged = f", {counts['diverged']:,} of them diverged" if counts["diverged"] else ""
    allowed = f", for {summary.limit:,} steps at most" if summary.says_limit else ""
    median = format_median(line.median_steps, summary)
    said = [
        f"{who}: each of {n:,} {drawn} was trained on alone by SGD{lr}, until its loss was at or below"
        f" {epsilon}{allowed}.",
        f"{line.reached:,} came to it, {line.not_reached:,} did not{diverged}; steps in the median: {median}.",
    ]
    if counts["error"]:
        said.append(f"Left out: {counts['error']:,} that could not be trained.")
    if math.isnan(study.epsilon):
        said.append("The table doesn't say which epsilon that was.")
    if not summary.says_limit:
        said.append(f"Nor how many steps were allowed; no example took more than {summary.limit:,}.")
    if metadata.left:
        which = ", and those that are done are the easiest: the others may differ" if metadata.easiest_part else ""
        said.append(
            f"The study is not complete: {metadata.left:,} of its {metadata.examples:,} examples are left{which}."
        )
    if summary.limit < study.limit:
        said.append(f"Some were given up after {summary.limit:,} steps: all are taken as they stood there.")
    return said


def _says(summary: Summary) -> list[str]:
    line = summary.at_epsilon
    found = line.association
    sentence = answer(summary)
    said = [sentence[0].upper() + sentence[1:] + "."]
    if found.p == found.p:
        said.append(f"By chance alone a correlation as far from zero comes up with {format_p(found.p, 'p ')}"
                    f" ({found.p_by}).")  # fmt: skip
        rho = found.spearman
        if rho.low == rho.low and (found.p < 0.05) == (rho.low <= 0 <= rho.high):
            said.append("Interval and p do not agree here, so neither is to be leaned on.")
    c = found.concordance
    if c.low == c.low:
        said.append(f"In other words (Harrell's C): of two images that need different numbers of steps the harder one"
                    f" needs more in {percent(c.value)} ({percent(c.low)} to {percent(c.high)}) of cases, by chance in"
                    " 50 %.")  # fmt: skip
    if summary.quintiles:
        medians = [format_median(summary.quintiles[k].median_steps, summary) for k in (0, -1)]
        shares = [percent(summary.quintiles[k].reached.mean()) for k in (0, -1)]
        said.append(
            f"The easiest fifth takes {medians[0]} steps in the median, the hardest {medians[1]}."
            if medians[0] != medians[1]
            else f"Of the easiest fifth {shares[0]} came to it, of the hardest {shares[1]}."
        )
    known = [each for each in summary.lines if each.correlation.low == each.correlation.low]
    if len(known) > 1:
        said.append(
            f"Over the thresholds the correlation goes from {known[0].correlation.short()} at a loss of"
            f" {known[0].label} to {known[-1].correlation.short()} at {known[-1].label}."
        )
    if line.partial.low == line.partial.low:
        said.append(f"Given the loss that an image has to begin with, that at {line.label} is {line.partial.short()}.")
    if line.pearson.misleads and line.pearson.value == line.pearson.value:
        said.append(f"Pearson's correlation over the reached alone, {line.pearson.value:+.2f}, misleads here"
                    f" ({line.pearson.misleads}).")  # fmt: skip
    return said


def _cannot_say(study: Study, summary: Summary) -> list[str]:
    metadata, n = study.metadata, summary.at_epsilon.association.n
    missed = summary.at_epsilon.not_reached
    sees = smallest_visible(n)
    needed = " and ".join(f"one of {rho:.2f} takes {pairs_to_see(rho):,}" for rho in SMALL_CORRELATIONS)
    said = [
        f"{n:,} examples tell a correlation of {sees:.2f} from zero in 80 % of samples; to see {needed}."
        if sees == sees
        else f"So few examples can't tell any correlation from zero; to see {needed}."
    ]
    if missed:
        said.append(f"Not reached counts as more than every number of steps: {percent(missed / n)} tie there, and how"
                    " they would differ beyond the limit is not seen.")  # fmt: skip
    labels = study.trained["label"].nunique() if "label" in study.trained else 0
    if 1 < labels < MIN_CLASSES:
        said.append("Images of one class may be alike, and a correlation may come from the classes alone: with"
                    f" {labels} classes the intervals can't take that into account.")  # fmt: skip
    if metadata.select == "wrong":
        said.append("All of these images were wrong to begin with, with a loss of at least ln 2; that truncates the"
                    " range of what can be seen, and --select all is the control.")  # fmt: skip
    said += _of_the_ranking(metadata)
    if metadata.environments:
        said.append(f"The rows were made in different environments: {'; '.join(metadata.environments)}.")
    return said


def _of_the_ranking(metadata: Metadata) -> list[str]:
    said = []
    if metadata.ceiling == metadata.ceiling:
        said.append(f"The ranking itself is not exact: its reliability is about {metadata.reliability:.2f}, so that"
                    f" about {metadata.ceiling:.2f} is the largest correlation that anything can have with it, if its"
                    " errors are independent of the pool's.")  # fmt: skip
    if metadata.in_its_ranking:
        said.append("The model is one of those that made the ranking, and so part of its own difficulty: rank --without"
                    " it is the cure.")  # fmt: skip
    elif metadata.in_its_ranking is None:
        said.append("If the model is one of those that made the ranking, it is part of its own difficulty; that is not"
                    " known here.")  # fmt: skip
    return said


def side_by_side(
    studies: Sequence[Study], summaries: Sequence[Summary], agreement: Sequence[tuple[str, str, Estimate]]
) -> str:
    """Several studies in words: what differs between them, and how far they agree."""
    said = [f"{len(studies)} studies side by side."]
    metadata = [study.metadata for study in studies]
    for what, values in (
        ("epsilon", [f"{each.epsilon:g}" if each.epsilon == each.epsilon else UNKNOWN for each in summaries]),
        ("steps allowed", [f"{each.limit:,}" if each.says_limit else UNKNOWN for each in summaries]),
        ("learning rate", [UNKNOWN if each.lr is None else f"{each.lr:g}" for each in metadata]),
        ("selection", [each.select or UNKNOWN for each in metadata]),
    ):
        if len(set(values)) > 1:
            said.append(f"They differ in more than the model: {what} {', '.join(dict.fromkeys(values))}.")
    for one, other, found in agreement:
        if found.value == found.value:
            said.append(f"{one} and {other} order the {found.n:,} examples that both have trained with a Spearman"
                        f" correlation of {found.short()}.")  # fmt: skip
        else:
            said.append(f"{one} and {other} share {found.n:,} examples: their orders can't be compared.")
    return " ".join(said)


def percent(share: float) -> str:
    """A share for people."""
    return f"{100 * share:.0f} %"
