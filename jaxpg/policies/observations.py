"""What a policy sees, in pure JAX, for ONE lane; the kernel vmaps.

An observation is encoded once, when it arrives, into a small array for the tape. It is decoded into the policy's input
wherever the policy uses it. With this split, the tape is four to eight times smaller than one of raw frames or floats.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
from pydantic import Field

from jaxpg.core.errors import UserError
from jaxpg.core.registry import Registry
from jaxpg.core.types import EmulatorNeeds, EnvSpec
from jaxpg.core.user_modules import own_code
from jaxpg.core.validation import STRICT, Name, PositiveFloat

Byte = Annotated[int, Field(ge=0, le=255)]
Pixels = Annotated[int, Field(ge=1, le=1024)]
End = Annotated[int, Field(ge=0, le=1024)]


@dataclass(frozen=True, kw_only=True)
class ObservationConfig:
    """What the policy sees. The fields after ``name`` belong to ``gray_difference`` and ``gray_motion``."""

    __pydantic_config__ = STRICT

    name: Name = "gray_difference"
    """stack42, stack84, gray_difference, gray_motion, red_difference, flat_gray, vector, ram or picture."""
    height: Pixels = 70
    """Rows that the emulator scales a frame to."""
    width: Pixels = 40
    """Columns that the emulator scales a frame to."""
    first_row: Annotated[int, Field(ge=0)] = 0
    """First row kept."""
    end_row: End = 0
    """Row after the last one kept; 0 keeps all."""
    first_column: Annotated[int, Field(ge=0)] = 0
    """First column kept."""
    end_column: End = 0
    """Column after the last one kept; 0 keeps all."""
    background: Annotated[tuple[Byte, ...], Field(max_length=8)] = ()
    """Gray values set to 0 before anything else, such as those of a game's field."""
    gain: PositiveFloat = 8.0
    """Factor on the input. Few pixels move, so inputs in [-1, 1] have far less than the unit variance that a
    network's initialisation assumes, and learning would be slow."""

    @property
    def is_cropped(self) -> bool:
        """Whether this is an observation of the package that uses the settings after ``name``."""
        return self.name in ("gray_difference", "gray_motion")


class Observation(NamedTuple):
    """A kind of observation: two pure functions, and what they need from the emulator."""

    needs: EmulatorNeeds
    encode: Callable[[jax.Array], jax.Array]
    """``canonical raw observation (see EnvSpec.axes) -> small array for the tape``"""
    decode: Callable[[jax.Array], jax.Array]
    """``encoded observation -> policy input``: float32, or the bytes of a picture, which stand for [0, 1]."""


def unit_scale(policy_input: jax.Array) -> jax.Array:
    """Turns bytes into float32 in [0, 1]; returns any other array unchanged."""
    return policy_input.astype(jnp.float32) / 255 if policy_input.dtype == jnp.uint8 else policy_input


def stack84(config: ObservationConfig) -> Observation:
    """Four gray 84x84 frames as channels, oldest first (Mnih et al. 2015, Methods): ``u8[84, 84, 4]``, for [0, 1]."""
    del config
    return _stack(84)


def stack42(config: ObservationConfig) -> Observation:
    """Four gray 42x42 frames as channels, oldest first: ``u8[42, 42, 4]``, for [0, 1]; a quarter of stack84's bytes."""
    del config
    return _stack(42)


def _stack(side: int) -> Observation:
    return Observation(
        EmulatorNeeds(kind="pixels", height=side, width=side, stack=4),
        encode=lambda raw: jnp.moveaxis(raw, 0, -1),
        decode=lambda frames: frames,
    )


def gray_difference(config: ObservationConfig) -> Observation:
    """The newest gray frame minus the previous frame, without background: ``f32[rows, columns]`` in [-gain, gain].

    The emulator scales the frames. Gray values are halved, so that a difference fits into a signed byte. On an
    episode's first agent step both frames are equal, so the input is 0.
    """
    return _of_two_frames(config, lambda newest, previous: newest - previous)


def gray_motion(config: ObservationConfig) -> Observation:
    """The newest gray frame and its ``gray_difference`` as two channels: ``f32[rows, columns, 2]`` in [-gain, gain].

    In the difference alone, whatever stands still is invisible, such as a paddle at the edge of Pong's field.
    """
    return _of_two_frames(config, lambda newest, previous: jnp.stack([newest, newest - previous], axis=-1))


def _of_two_frames(config: ObservationConfig, encode: Callable[[jax.Array, jax.Array], jax.Array]) -> Observation:
    """An observation that ``encode`` makes from the newest and the previous frame, signed bytes in [0, 127]."""
    end_row, end_column = config.end_row or config.height, config.end_column or config.width
    for side, first, end, most in (
        ("row", config.first_row, end_row, config.height),
        ("column", config.first_column, end_column, config.width),
    ):
        if not first < end <= most:
            raise UserError(f"observation.first_{side}: {side}s {first} to {end} are not inside 0 to {most}")

    def halved(raw: jax.Array) -> jax.Array:
        frames = raw[:, config.first_row : end_row, config.first_column : end_column]
        for gray in config.background:
            frames = jnp.where(frames == gray, 0, frames)
        newest = (frames[1] >> 1).astype(jnp.int8)
        previous = (frames[0] >> 1).astype(jnp.int8)
        return encode(newest, previous)

    return Observation(
        EmulatorNeeds(kind="pixels", height=config.height, width=config.width, stack=2),
        encode=halved,
        decode=lambda encoded: encoded.astype(jnp.float32) * (config.gain / 127.0),
    )


def red_difference(config: ObservationConfig) -> Observation:
    """Karpathy's Pong input as a Keras notebook computes it: ``f32[80, 80]`` in [-1, 1].

    Takes the red channel, rows 35:195, every second pixel; sets the backgrounds 144 and 109 to 0; subtracts the last
    frame from the new frame; divides by the largest absolute value. The input is 0 on an episode's first agent step.
    """
    del config

    def encode(raw: jax.Array) -> jax.Array:
        red = raw[:, 0, 35:195:2, ::2].astype(jnp.int16)
        red = jnp.where((red == 144) | (red == 109), 0, red)
        return red[1] - red[0]

    def decode(difference: jax.Array) -> jax.Array:
        difference = difference.astype(jnp.float32)
        return difference / jnp.maximum(jnp.max(jnp.abs(difference)), 1.0)

    return Observation(EmulatorNeeds(kind="pixels", height=210, width=160, color="rgb", stack=2), encode, decode)


def flat_gray(config: ObservationConfig) -> Observation:
    """The whole frame in gray, as pixel values 0 to 255: ``f32[33600]``.

    The pixels equal those of Gymnasium's GrayscaleObservation, which weights red, green and blue by 0.2125, 0.7154 and
    0.0721 in float64 and truncates. Integer arithmetic gives the same result for all but 63 of the 2^24 colours, and
    the console has none of these 63. Arithmetic in float32 does not give the same result.
    """
    del config

    def encode(raw: jax.Array) -> jax.Array:
        # XLA on CPU vectorises one sum over the colours; adding three planes is four times as slow
        weighted = raw[0].astype(jnp.int32) * jnp.array([2125, 7154, 721])[:, None, None]
        return (weighted.sum(axis=0) // 10_000).astype(jnp.uint8).reshape(-1)

    return Observation(
        EmulatorNeeds(kind="pixels", height=210, width=160, color="rgb"),
        encode,
        decode=lambda gray: gray.astype(jnp.float32),
    )


def vector(config: ObservationConfig) -> Observation:
    """The numbers that an environment gives, unchanged: ``f32[D]``.

    An environment that gives one of D numbers gives a vector with 1 in its place and 0 in all others.
    """
    del config
    return Observation(EmulatorNeeds(kind="vector"), encode=lambda raw: raw, decode=lambda x: x.astype(jnp.float32))


def picture(config: ObservationConfig) -> Observation:
    """The environment's own picture, unchanged: ``[H, W]`` or ``[H, W, C]``.

    Bytes stay bytes, which stand for [0, 1]. Any other number becomes float32 and keeps its value.
    """
    del config
    return Observation(
        EmulatorNeeds(kind="picture"),
        encode=lambda raw: raw,
        decode=lambda x: x if x.dtype == jnp.uint8 else x.astype(jnp.float32),
    )


def ram(config: ObservationConfig) -> Observation:
    """The console's 128 bytes of memory, scaled to [-1, 1]: ``f32[128]``."""
    del config
    return Observation(
        EmulatorNeeds(kind="ram"), encode=lambda raw: raw, decode=lambda x: x.astype(jnp.float32) / 127.5 - 1.0
    )


OBSERVATIONS: Registry[Callable[[ObservationConfig], Observation]] = Registry(
    "observation.name",
    {
        "stack42": stack42,
        "stack84": stack84,
        "gray_difference": gray_difference,
        "gray_motion": gray_motion,
        "red_difference": red_difference,
        "flat_gray": flat_gray,
        "vector": vector,
        "ram": ram,
        "picture": picture,
    },
)
"""Observations by name."""


def make_observation(config: ObservationConfig) -> Observation:
    """Builds the observation named in ``config``.

    Raises:
      UserError: the name is unknown, settings do not fit, or the user's own function fails.
    """
    make, what = OBSERVATIONS[config.name], f"observation.name: {config.name!r}"
    with own_code(what, make, "(config)"):
        observation = make(config)
    if not isinstance(observation, Observation):
        raise UserError(f"{what}: the function must return an Observation, not {type(observation).__name__}")
    return observation


WITHOUT_SETTINGS = ("stack42", "stack84", "red_difference", "flat_gray", "vector", "ram", "picture")
"""Observations of the package that use none of the settings after ``name``. A user's own may use any."""


def unused_settings(config: ObservationConfig) -> list[str]:
    """Names of the settings that differ from their defaults although the observation does not use them."""
    if config.name not in WITHOUT_SETTINGS:
        return []
    names = [field.name for field in fields(config) if field.name != "name"]
    return [name for name in names if getattr(config, name) != getattr(ObservationConfig, name)]


def encoded_shape(observation: Observation, spec: EnvSpec) -> jax.ShapeDtypeStruct:
    """Shape and dtype of one lane's encoded observation."""
    raw = jax.ShapeDtypeStruct(spec.observation_shape, spec.observation_dtype)
    with own_code("observation.name: encode", observation.encode, "(raw)"):
        encoded: jax.ShapeDtypeStruct = jax.eval_shape(
            lambda x: jnp.asarray(observation.encode(jnp.transpose(x, spec.axes))), raw
        )
        return encoded


def input_shape(observation: Observation, spec: EnvSpec) -> tuple[int, ...]:
    """Shape of one policy input."""
    with own_code("observation.name: decode", observation.decode, "(encoded)"):
        return jax.eval_shape(lambda x: jnp.asarray(observation.decode(x)), encoded_shape(observation, spec)).shape
