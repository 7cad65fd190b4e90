"""
Orientation and phase: are indices right where neurons differ by degrees
========================================================================

In the population of `end_to_end.py` indices of orientation and phase differ between types alone.
Here neurons of one kind are anything from simple to complex, with few or several stripes, so that
both indices vary from neuron to neuron. A model learns from their spikes, and its indices,
with each neuron's optimal Gabor in the model, are compared with those of the neuron itself.

What must be seen: rank correlations of at least 0.8, of neurons predicted to 0.6 of their ceiling.

Measured (--full): of 80 neurons, predicted to .98 of their ceiling, orientation .93 (indices from
.23 to .67), phase invariance .98 (from .23 to 1.00).
"""

from dataclasses import replace

import numpy as np
from evaluation import INDICES, PREDICTED, indices, true_indices
from scipy.stats import spearmanr
from twin_figures import arguments, grid_of, table

from fastvis.twin import ceiling, correlation_to_average, optimal_gabors
from fastvis.twin.presets import PRESETS

args = arguments()
preset = PRESETS[args.preset]
options = preset.simulated | {"types": ["simple"], "n_neurons": 80 if args.full else 12}
preset = replace(preset, simulated=options, max_steps=2200 if args.full else preset.max_steps)
recording = preset.simulate(args.seed)
rng = np.random.default_rng(args.seed)
cortex = recording.truth
n = cortex.n_neurons
cortex = replace(
    cortex, complexness=rng.uniform(size=n), sigmas=rng.uniform(1.4, 3.4, n),
    frequencies=rng.uniform(0.06, 0.18, n),
)  # fmt: skip
shown = recording.normalization().images(recording.images)
cortex = replace(cortex, gains=cortex.gains * recording.responses.mean() / cortex(shown).mean(0))
spikes = rng.poisson(cortex(shown)[recording.image_ids]).astype(np.float32)
recording = replace(recording, responses=spikes, truth=cortex)

model = preset.train([recording], args.atlas.with_name(args.atlas.name + "-varied"), args.seed)
responses, ids = recording.of_tier("test")
images, image_ids = np.unique(ids, return_inverse=True)
predicted = model.predict(recording.images[images])
share = correlation_to_average(predicted, responses, image_ids) / ceiling(responses, ids)
used = share >= PREDICTED
grid = grid_of(args, recording)
true = true_indices(cortex, grid)
found = indices(model, optimal_gabors(model, grid).stimuli, grid.size)
print(f"{recording}; {np.median(share):.2f} of the ceiling; {used.sum()} neurons used\n")
table(
    ["index", "of the neurons", "standard deviation", "rank correlation", "error"],
    [
        [name, f"{true[name].min():.2f} to {true[name].max():.2f}", float(true[name].std()),
         float(spearmanr(true[name][used], found[name][used])[0]),
         float(np.median(np.abs(true[name] - found[name])))]
        for name in INDICES[:2]
    ],
)  # fmt: skip
