"""What models of scenes do to their parameters."""

from ..._validation import check_int


def check_architecture(model):
    """Check the sizes of a model's networks."""
    for name in ("n_steps", "latent_dim", "n_features", "n_layers"):
        check_int(getattr(model, name), name, minimum=1)
    channels = model.attention_channels
    if not isinstance(channels, tuple | list) or not channels:
        raise ValueError(
            f"attention_channels must be a tuple of one or more ints; got {channels!r}."
        )
    for channel in channels:
        check_int(channel, "attention_channels", minimum=1)


def check_extent(model, size):
    """Refuse images that the encoder's poolings, or the attention's, would leave nothing of."""
    least = 2 ** max(model.n_layers, len(model.attention_channels))
    if min(size) < least:
        raise ValueError(
            f"images must have at least {least} x {least} pixels for {model.n_layers} layers and "
            f"{len(model.attention_channels)} attention blocks; got {size[0]} x {size[1]}. Take "
            "fewer of them, or larger images."
        )
