"""How often the intervals of the report hold the truth, and whether its p is even where there is no effect.

Examples are drawn from a population in which steps (whole numbers, so with ties) follow difficulty with a latent
correlation, and are given up at a limit that none, 30 % or 90 % don't reach. The truth is the same statistic of 10^6
examples under the same limit, since that is what a sample under this limit can speak of. Prints a table; an hour.
"""

import argparse
import math
from collections.abc import Iterator

import numpy as np
from scipy import stats
from tqdm import tqdm

from lightning_app.analysis.statistics import (
    Floats,
    Jackknifed,
    Paired,
    bootstrap,
    not_reached_on_top,
    percentiles,
    permutation_p,
)

LATENT = 0.3
POPULATION = 1_000_000
CLASSES = 100
STATISTICS = ("Spearman", "tau-b", "C")


def draw(n: int, latent: float, chance: np.random.Generator) -> tuple[Floats, Floats]:
    """Steps and difficulty of n examples, their logarithms jointly normal."""
    difficulty, other = chance.normal(size=(2, n))
    return np.ceil(np.exp(4 + latent * difficulty + math.sqrt(1 - latent**2) * other)), difficulty


def three(pairs: Paired) -> tuple[Jackknifed, Jackknifed, Jackknifed]:
    """The statistics; Somers' D stands for C = (D + 1) / 2, which has the same coverage."""
    return pairs.spearman, pairs.kendall, pairs.somers


def samples(n: int, limit: float, latent: float, replicates: int) -> Iterator[Paired]:
    """Samples under a limit, other ones for every line and purpose."""
    chance = np.random.default_rng([n, 0 if math.isinf(limit) else int(limit), int(latent > 0)])
    for _ in tqdm(range(replicates), desc=f"n = {n}, limit {limit:g}", leave=False):
        steps, difficulty = draw(n, latent, chance)
        yield Paired(on_top(steps, limit), difficulty)


def on_top(steps: Floats, limit: float) -> Floats:
    """Steps as the report takes them."""
    return steps if math.isinf(limit) else not_reached_on_top(np.where(steps > limit, -1, steps), int(limit))


def say_coverage(n: int, share: float, replicates: int, bootstrapped: int) -> None:
    """Prints one line of the table."""
    population, difficulty = draw(POPULATION, LATENT, np.random.default_rng(0))
    limit = math.inf if share == 0 else float(np.quantile(population, 1 - share))
    truth = [each.value for each in three(Paired(on_top(population, limit), difficulty))]
    hits, undefined, percentile = np.zeros(3), 0, np.zeros(3)
    for k, pairs in enumerate(samples(n, limit, LATENT, replicates)):
        ends = [each.interval() for each in three(pairs)]
        undefined += any(math.isnan(low) for low, _ in ends)
        hits += [low <= true <= high for (low, high), true in zip(ends, truth, strict=True)]
        if k < bootstrapped:
            drawn_ends = [percentiles(draws) or (math.nan, math.nan) for draws in bootstrap(pairs, seed=k)]
            percentile += [low <= true <= high for (low, high), true in zip(drawn_ends, truth, strict=True)]
    ps = np.array([permutation_p(pairs, k)[0] for k, pairs in enumerate(samples(n, limit, 0.0, bootstrapped))])
    covered = "  ".join(f"{name} {100 * hit / replicates:.1f}" for name, hit in zip(STATISTICS, hits, strict=True))
    drawn = "  ".join(
        f"{name} {100 * hit / bootstrapped:.1f}" for name, hit in zip(STATISTICS, percentile, strict=True)
    )
    print(
        f"n {n:>5}, not reached {share:4.0%}, truth {truth[0]:.3f}: jackknife {covered} % ({undefined} without);"
        f" bootstrap ({bootstrapped}) {drawn} %; no effect: p < .05 in {100 * np.mean(ps < 0.05):.1f} %,"
        f" < .5 in {100 * np.mean(ps < 0.5):.1f} %, even with p = {stats.kstest(ps, 'uniform').pvalue:.2f}",
        flush=True,
    )


def say_clustered(n: int, replicates: int) -> None:
    """Prints how the intervals do where examples of a class are alike in both steps and difficulty."""

    def alike(n: int, chance: np.random.Generator) -> tuple[Floats, Floats, Floats]:
        labels = chance.integers(CLASSES, size=n)
        of_class, own = chance.normal(size=(2, CLASSES)), chance.normal(size=(2, n))
        steps, difficulty = math.sqrt(0.3) * of_class[:, labels] + math.sqrt(0.7) * own
        return steps + 0.3 * difficulty, difficulty, labels.astype(float)

    chance = np.random.default_rng(1)
    truth = float(np.mean([three(Paired(*alike(50_000, chance)[:2]))[0].value for _ in range(200)]))
    plain = clustered = 0
    for _ in tqdm(range(replicates), desc="clustered", leave=False):
        steps, difficulty, labels = alike(n, chance)
        found = Paired(steps, difficulty).spearman
        plain += found.interval()[0] <= truth <= found.interval()[1]
        ends = found.interval(labels)
        clustered += ends[0] <= truth <= ends[1]
    print(
        f"n {n}, examples of {CLASSES} classes alike (intraclass correlation .3): Spearman's interval covers"
        f" {100 * plain / replicates:.1f} %, clustered by class {100 * clustered / replicates:.1f} %",
        flush=True,
    )


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--replicates", type=int, default=2_000)
    parser.add_argument("--bootstrapped", type=int, default=2_000, help="replicates with bootstrap and permutations")
    arguments = parser.parse_args()
    for n in (100, 1_000):
        for share in (0, 0.3, 0.9):
            say_coverage(n, share, arguments.replicates, min(arguments.bootstrapped, arguments.replicates))
    say_clustered(1_000, arguments.replicates)


if __name__ == "__main__":
    main()
