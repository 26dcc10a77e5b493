"""Pictures that environments give, as they are."""


def channels_last(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Transposition of a picture into ``[H, W]`` or ``[H, W, C]``, for ``EnvSpec.axes``.

    The channels are the first or the last axis, whichever is shorter.

    >>> channels_last((3, 64, 64)), channels_last((7, 7, 3)), channels_last((10, 10))
    ((1, 2, 0), (0, 1, 2), (0, 1))
    """
    first = len(shape) == 3 and shape[0] < shape[-1]
    return (1, 2, 0) if first else tuple(range(len(shape)))
