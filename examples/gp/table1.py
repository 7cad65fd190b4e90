"""
Table 1: how uncertain layers stay
==================================

'Compositional uncertainty in deep Gaussian processes', Table 1: lower bounds on the evidence, and
the variance of both layers at 0, of one data set with several posteriors. What must be seen: with
the factorized posterior (DSVI) layers collapse; those that couple layers keep the first one's
variance larger by one order of magnitude (chain, joint) or more than two (locations), at bounds
above the paper's. Measured: benchmarks/results/gp.md.

    python examples/gp/table1.py --steps 1000                                # a minute
    python examples/gp/table1.py --full --folder results                     # ten seeds, resumed
    python examples/gp/table1.py --full --folder results --training sampled  # as the authors
"""

import argparse

import numpy as np
from compositions import PAPER, POSTERIORS, TRAINING, result


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--training", choices=TRAINING, default="natural")
    parser.add_argument("--posteriors", nargs="+", choices=POSTERIORS, default=POSTERIORS)
    parser.add_argument("--frozen", action="store_true", help="hyperparameters stay as they are")
    parser.add_argument("--full", action="store_true", help="10 seeds, all steps")
    parser.add_argument("--folder", help="where results are kept")
    args = parser.parse_args()
    if args.full:
        args.seeds, args.steps = 10, None
    frozen = ("hyperparameters",) if args.frozen else ()
    results = {p: [] for p in args.posteriors}
    for seed in range(args.seeds):
        for posterior in args.posteriors:
            one = result(posterior, seed, args.training, frozen, args.steps, args.folder)
            results[posterior].append(one)
            print(
                f"{posterior}, seed {seed}: ELBO {one['elbo']:.2f} +- {one['error']:.2f}, "
                f"Var f1(0) {one['f1']:.3g}, Var f2(0) {one['f2']:.3g}, {one['seconds']:.0f} s",
                flush=True,
            )
    print(table(results))


def table(results):
    """Mean and standard deviation over seeds, and the median; the paper's mean in brackets."""
    lines = ["| posterior | ELBO | Var f1(0) | Var f2(0) | total correlation | shuffle |"]
    lines.append("|---|--:|--:|--:|--:|--:|")
    for posterior, runs in results.items():
        paper = PAPER.get(posterior)
        cells = [posterior]
        for i, key in enumerate(("elbo", "f1", "f2")):
            values = np.array([run[key] for run in runs])
            cell = f"{values.mean():.3g} +- {values.std():.2g}, median {np.median(values):.3g}"
            cells.append(cell + (f" ({paper[i]:.3g})" if paper else ""))
        for key in ("total_correlation", "shuffle"):
            cells.append(f"{np.mean([run[key] for run in runs]):.3g}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
