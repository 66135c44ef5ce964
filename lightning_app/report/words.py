"""What a report says before any number: what was measured, what it says, what it can't say."""

import math
from collections.abc import Sequence

from lightning_app.analysis.association import MOST_RESAMPLED
from lightning_app.analysis.closing import SMALL_CORRELATIONS, Closing
from lightning_app.analysis.closing_words import answer, median_in_words
from lightning_app.analysis.facts import Facts
from lightning_app.analysis.reading import Study
from lightning_app.analysis.statistics import Estimate, pairs_to_see, smallest_visible
from lightning_app.inputs.model_list import name_in_pool

WHAT_WAS_DRAWN = {
    "wrong": "images that the model got wrong",
    "correct": "images that the model got right",
    "all": "images, right or wrong,",
}


def paragraphs(study: Study, closing: Closing) -> list[str]:
    """The report of one study in words."""
    return [" ".join(_measured(study, closing)), " ".join(_says(closing)), " ".join(_cannot_say(study, closing))]


def _measured(study: Study, closing: Closing) -> list[str]:
    facts, counts, n = study.facts, closing.counts, closing.at_epsilon.association.n
    who = name_in_pool(facts.model_name) if facts.model_name else study.name
    lr = f" with a learning rate of {facts.lr:g}" if facts.lr is not None else ""
    drawn = WHAT_WAS_DRAWN.get(facts.select, "images")
    said = [
        f"{who}: each of {n:,} {drawn} was trained on alone by SGD{lr}, until its loss was at or below"
        f" {_epsilon(closing)}, for {closing.limit:,} steps at most.",
        f"{counts['reached']:,} came to it, {counts['censored']:,} did not, {counts['diverged']:,} diverged;"
        f" median {median_in_words(closing.at_epsilon.median_steps, closing.limit)} steps.",
    ]
    if counts["error"]:
        said.append(f"{counts['error']:,} that could not be trained are left out.")
    if math.isnan(study.epsilon):
        said.append("The table doesn't say which epsilon that was, nor how many steps were allowed: that is the most"
                    " that any row took.")  # fmt: skip
    if facts.left:
        which = ", and those that are done are the easiest: the others may differ" if facts.easiest_part else ""
        said.append(f"The study is not complete: {facts.left:,} of its {facts.examples:,} examples are left{which}.")
    if closing.limit < study.limit:
        said.append(f"Some were given up after {closing.limit:,} steps: all are taken as they stood there.")
    return said


def _epsilon(closing: Closing) -> str:
    return f"{closing.epsilon:g}" if closing.epsilon == closing.epsilon else "epsilon"


def _says(closing: Closing) -> list[str]:
    line = closing.at_epsilon
    found = line.association
    sentence = answer(closing)
    said = [sentence[0].upper() + sentence[1:] + "."]
    if found.p == found.p:
        how = "permutations" if found.n <= MOST_RESAMPLED else "the normal limit of permutations"
        said.append(f"If steps had nothing to do with difficulty, a correlation as far from zero would come up with p"
                    f" {p_value(found.p)} ({how}).")  # fmt: skip
    c = found.concordance
    if c.low == c.low:
        said.append(f"Of two images that need different numbers of steps the harder one needs more in"
                    f" {percent(c.value)} ({percent(c.low)} to {percent(c.high)}); by chance 50 %.")  # fmt: skip
    if closing.quintiles:
        medians = [median_in_words(closing.quintiles[k].median_steps, closing.limit) for k in (0, -1)]
        shares = [percent(closing.quintiles[k].reached.mean()) for k in (0, -1)]
        said.append(
            f"The easiest fifth takes {medians[0]} steps in the median, the hardest {medians[1]}."
            if medians[0] != medians[1]
            else f"Of the easiest fifth {shares[0]} came to it, of the hardest {shares[1]}."
        )
    known = [each for each in closing.lines if each.correlation.low == each.correlation.low]
    if len(known) > 1:
        said.append(
            f"Over the thresholds the correlation goes from {bare(known[0].correlation)} at a loss of {known[0].label}"
            f" to {bare(known[-1].correlation)} at {known[-1].label}."
        )
    if line.partial.low == line.partial.low:
        said.append(f"Given the loss that an image has to begin with, it is {bare(line.partial)}.")
    if line.pearson.misleads and line.pearson.value == line.pearson.value:
        said.append(f"Pearson's correlation over the reached alone, {line.pearson.value:+.2f}, misleads here"
                    f" ({line.pearson.misleads}).")  # fmt: skip
    return said


def _cannot_say(study: Study, closing: Closing) -> list[str]:
    facts, n = study.facts, closing.at_epsilon.association.n
    missed = closing.at_epsilon.not_reached
    sees = smallest_visible(n)
    needed = " and ".join(f"{pairs_to_see(rho):,} for {rho:.2f}" for rho in SMALL_CORRELATIONS)
    said = [
        f"{n:,} examples tell a correlation of {sees:.2f} from zero in 80 % of samples; it takes {needed}."
        if sees == sees
        else f"{n:,} examples can't tell any correlation from zero; it takes {needed}."
    ]
    if missed:
        said.append(f"Not reached counts as more than every number of steps, and {percent(missed / n)} tie there: this"
                    " is the correlation of such counts, not that of counts without a limit.")  # fmt: skip
    if facts.select == "wrong":
        said.append("All of these images were wrong to begin with, with a loss of at least ln 2; that truncates the"
                    " range of what can be seen, and --select all is the control.")  # fmt: skip
    said += _of_the_ranking(facts)
    if facts.environments:
        said.append(f"The rows were made in different environments: {'; '.join(facts.environments)}.")
    return said


def _of_the_ranking(facts: Facts) -> list[str]:
    said = []
    if facts.ceiling == facts.ceiling:
        said.append(f"The ranking itself is not exact: about {facts.ceiling:.2f} is the largest correlation that"
                    " anything can have with it, if its errors are independent of the pool's.")  # fmt: skip
    if facts.in_its_ranking:
        said.append("The model is one of those that made the ranking, and so part of its own difficulty: rank --without"
                    " it is the cure.")  # fmt: skip
    elif facts.in_its_ranking is None:
        said.append("If the model is one of those that made the ranking, it is part of its own difficulty; that is not"
                    " known here.")  # fmt: skip
    return said


def side_by_side(studies: Sequence[Study], agreement: Sequence[tuple[str, str, Estimate]]) -> str:
    """Several studies in words: what differs between them, and how far they agree."""
    said = [f"{len(studies)} studies side by side."]
    for what, values in (
        ("epsilon", {study.epsilon for study in studies}),
        ("steps allowed", {study.limit for study in studies}),
        ("learning rate", {study.facts.lr for study in studies if study.facts.lr is not None}),
        ("selection", {study.facts.select for study in studies if study.facts.select}),
    ):
        if len({str(value) for value in values}) > 1:
            named = ", ".join(f"{value:g}" if isinstance(value, float) else str(value) for value in values)
            said.append(f"They differ in more than the model: {what} {named}.")
    for one, other, found in agreement:
        if found.value == found.value:
            said.append(f"{one} and {other} order the {found.n:,} examples that both have trained with a Spearman"
                        f" correlation of {bare(found)}.")  # fmt: skip
        else:
            said.append(f"{one} and {other} share {found.n:,} examples: their orders can't be compared.")
    return " ".join(said)


def bare(found: Estimate) -> str:
    """A statistic with its interval, without n."""
    if math.isnan(found.value):
        return "undefined"
    return f"{found.value:+.2f}" + ("" if math.isnan(found.low) else f" ({found.low:+.2f} to {found.high:+.2f})")


def percent(share: float) -> str:
    """A share for people."""
    return f"{100 * share:.0f} %"


def p_value(p: float) -> str:
    """A p value for people."""
    return "—" if math.isnan(p) else "< 0.001" if p < 0.001 else f"= {p:.3f}"
