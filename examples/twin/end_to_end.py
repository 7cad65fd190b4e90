"""
Recording, model, atlas: how much of it is true
===============================================

A simulated cortex is shown natural images; a rotation-equivariant model is trained on the noisy
responses and taken through every stage of the atlas. What it says of each neuron is compared with
the neuron itself, whose rates for every stimulus are known: the same experiments, with its own best
Gabors.

What must be seen: correlations near their ceiling, the clusters those of the types, and indices of
neurons in the true order, within the types in which an index varies at all.
"""

from evaluation import evaluate, report
from twin_figures import arguments, grid_of, twin

args = arguments()
recording, _, found = twin(args)
print(f"preset {args.preset}, seed {args.seed}: {recording.truth}\n")
numbers = evaluate(recording, found, grid_of(args, recording))
print(report(numbers))
print(
    f"\ncorrelation to average {numbers['correlation']:.3f}, ceiling {numbers['ceiling']:.3f}; "
    f"{numbers['n_clusters']} clusters of {numbers['n_types']} types; preferred orientations off "
    f"by {numbers['median_error_degrees']:.1f} degrees in the median"
)
