"""Parameters of ECON for a kind of scene and the time there is."""

_GPU = dict(n_features=32, attention_channels=(32, 64, 64, 64), warmup_steps=1000)
_CPU = dict(
    latent_dim=3, n_layers=3, n_features=16, attention_channels=(8, 8, 16),
    learning_rate=2e-3, warmup_steps=800, n_drops=3,
)  # fmt: skip
_SMOKE = dict(
    latent_dim=2, n_layers=2, n_features=8, attention_channels=(4, 8),
    learning_rate=5e-3, warmup_steps=10, validate_every=10, batch_size=8,
)  # fmt: skip

# Classes that differ in color compete by (10) + (12); others by (12) alone (section 5.2).
_BY_CLASS = dict(competition="reconstruction")
_RANDOM = dict(competition="region", warmup_steps=0)

PRESETS = {
    "smoke": {
        "by_class": _SMOKE | _BY_CLASS,
        "random": _SMOKE | _RANDOM,
    },
    "cpu": {
        "by_class": _CPU | _BY_CLASS | dict(beta=0.52, gamma=2.0),
        "random": _CPU | _RANDOM | dict(latent_dim=5, beta=1.0, gamma=3.26),
    },
    "gpu": {  # the winners of C.4; beta and gamma of the first by erratum 10
        "by_class": _GPU | _BY_CLASS | dict(latent_dim=2, n_layers=4, beta=0.52, gamma=9.54),
        "random": _GPU | _RANDOM | dict(latent_dim=5, n_layers=3, beta=1.0, gamma=3.26),
    },
}
