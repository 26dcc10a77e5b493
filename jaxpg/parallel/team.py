"""The devices that work on one run, in one process or in several that run the same program (JAX's multi-controller).

One device of one process is the ordinary case and takes the same way, except that there is nothing to reduce. Every
process keeps the learner's whole state on its first device and computes the same from it; what differs is whose lanes
it plays. Only sums of gradients, a few numbers for each agent step, and finished games travel.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import msgpack
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxpg.core.errors import UserError
from jaxpg.machine.xla import local_devices

T = TypeVar("T")
AXIS = "data"
ENVELOPE_BYTES = 4092
"""Of a letter that needs no second one."""


@dataclass(frozen=True)
class Team:
    """Which devices there are, and how they tell each other what they know.

    All processes must call ``gather``, ``lead``, ``together``, ``check_alike`` and ``reduce`` in the same order.
    """

    mesh: Mesh
    """All devices of all processes, those of a process side by side, on the axis ``data``."""
    process: int = 0
    """This process's number; 0 leads: it alone writes files."""
    num_processes: int = 1

    @classmethod
    def of(cls, devices: Sequence[jax.Device], process: int = 0, num_processes: int = 1) -> "Team":
        """The team of these devices."""
        in_order = sorted(devices, key=lambda device: (device.process_index, device.id))
        return cls(Mesh(np.array(in_order), (AXIS,)), process, num_processes)

    @classmethod
    def alone(cls) -> "Team":
        """One device of one process."""
        return cls.of(local_devices()[:1])

    @property
    def leads(self) -> bool:
        return self.process == 0

    @property
    def num_devices(self) -> int:
        """Of all processes (D)."""
        return int(self.mesh.size)

    @property
    def devices(self) -> tuple[jax.Device, ...]:
        """Of this process, in the order of the mesh."""
        return tuple(self.mesh.local_devices)

    @property
    def first_device(self) -> int:
        """Number of this process's first device among all."""
        return self.process * len(self.devices)

    def sharded(self, parts: Sequence[Any], axis: int) -> Any:
        """One array, in each leaf, of all devices' parts side by side along ``axis``; nothing is copied.

        Args:
          parts: a pytree of arrays for each device of this process, there already.
          axis: along which they lie side by side.
        """
        sharding = NamedSharding(self.mesh, PartitionSpec(*(None,) * axis, AXIS))

        def together(*shards: jax.Array) -> jax.Array:
            shape = list(shards[0].shape)
            shape[axis] *= self.num_devices
            return jax.make_array_from_single_device_arrays(tuple(shape), sharding, list(shards))

        return jax.tree.map(together, *parts)

    def replicated(self, tree: Any) -> Any:
        """What each process has on its first device, and all have the same, as arrays of all devices."""
        sharding = self.everywhere

        def spread(x: jax.Array) -> jax.Array:
            if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
                return _as_key(spread(jax.random.key_data(x)), jax.random.key_impl(x))
            shards = [jax.device_put(x, device) for device in self.devices]
            return jax.make_array_from_single_device_arrays(x.shape, sharding, shards)

        return jax.tree.map(spread, tree)

    @property
    def everywhere(self) -> NamedSharding:
        """Every device has the whole array."""
        return NamedSharding(self.mesh, PartitionSpec())

    def here(self, tree: Any, device: int = 0) -> Any:
        """A replicated pytree as one of this process's devices has it; nothing is copied."""
        wanted = self.devices[device]
        return jax.tree.map(lambda x: next(s.data for s in x.addressable_shards if s.device == wanted), tree)

    def reduce(self, reduction: Callable[[Any], Any], parts: Sequence[Any]) -> Any:
        """One result from all devices' parts, the same in every process, on its first device; of one device, its part.

        Args:
          reduction: pure; of leaves that are led by the D devices, where there are several. The compiler inserts what
            must travel.
          parts: a pytree for each device of this process.
        """
        if self.num_devices == 1:
            return parts[0]  # as it is: for a gradient a copy shows (docs/performance.md)
        together = self.sharded([_led_by_one(part) for part in parts], axis=0)
        return self.here(_reduced(reduction, self.everywhere)(together))

    def gather(self, content: Any) -> list[Any]:
        """What every process has to say, in the order of the processes: anything that is JSON, or bytes within it."""
        if self.num_processes == 1:
            return [content]
        letter = msgpack.packb(content)
        heads = self._gather_bytes(len(letter).to_bytes(4, "big") + letter[:ENVELOPE_BYTES], 4 + ENVELOPE_BYTES)
        sizes = [int.from_bytes(head[:4], "big") for head in heads]
        letters = [head[4:] for head in heads]
        if max(sizes) > ENVELOPE_BYTES:
            letters = self._gather_bytes(letter, 1 << (max(sizes) - 1).bit_length())  # few sizes are ever compiled
        return [msgpack.unpackb(padded[:size]) for padded, size in zip(letters, sizes, strict=True)]

    def _gather_bytes(self, content: bytes, size: int) -> list[bytes]:
        """Every process's bytes, filled up to a common size."""
        rows = multihost_utils.process_allgather(np.frombuffer(content.ljust(size, b"\0"), np.uint8))
        return [row.tobytes() for row in rows]

    def lead(self, work: Callable[[], T]) -> T:
        """What ``work`` returned in process 0, the only one that does it: JSON.

        Raises:
          UserError, OSError: in every process what ``work`` raised in process 0.
        """
        return self._shared([work] if self.leads else [])[0]

    def together(self, work: Callable[[], T]) -> T:
        """What ``work`` returns in this process; all do it.

        Raises:
          UserError, OSError: in every process what ``work`` raised in the first that failed.
        """
        kept: list[T] = []
        self._shared([lambda: kept.append(work())])
        return kept[0]

    def check_same_settings(self, settings: Mapping[str, Any]) -> None:
        """Compares what every process was told; to be called before anything is written.

        Args:
          settings: JSON values by the names that the user knows, the same names in all processes.

        Raises:
          UserError: in every process, naming the first settings that differ, with the values.
        """
        everyones = self.gather(dict(settings))
        differing = []
        for process, theirs in enumerate(everyones):
            for name in settings:
                if theirs.get(name) != everyones[0].get(name):
                    values = f"{everyones[0].get(name)} in process 0 and {theirs.get(name)} in process {process}"
                    differing.append(f"{name} is {values}")
        if differing:
            more = f" and {len(differing) - 3} more" if len(differing) > 3 else ""
            raise UserError(f"{', '.join(differing[:3])}{more}; give all processes of a run the same")

    def check_alike(self, tree: Any, what: str) -> None:
        """RuntimeError where the processes do not have the same: they would go on as different runs."""
        if self.num_processes == 1:
            return
        digest = hashlib.sha256()
        for leaf in jax.tree.leaves(jax.tree.map(_plain, tree)):
            digest.update(np.asarray(leaf).tobytes())
        digests = self.gather(digest.hexdigest())
        odd = [str(process) for process, other in enumerate(digests) if other != digests[0]]
        if odd:
            raise RuntimeError(f"process {', '.join(odd)} has another {what} than process 0")

    def _shared(self, works: list[Callable[[], T]]) -> list[T]:
        """Results of all who work, or the first one's error in every process."""
        results: list[Any] = []
        error: UserError | OSError | None = None
        try:
            results = [work() for work in works]
        except (UserError, OSError) as raised:
            error = raised
        if self.num_processes == 1:
            if error:
                raise error
            return results
        kind = type(error).__name__ if error else ""
        said = self.gather([kind, str(error) if error else results])
        for kind, words in said:
            if kind:
                raise (UserError if kind == "UserError" else OSError)(words) from error
        return [result for _, words in said for result in words]


@partial(jax.jit, static_argnames="impl")
def _as_key(data: jax.Array, impl: Any) -> jax.Array:
    return jax.random.wrap_key_data(data, impl=impl)


def _plain(x: jax.Array) -> jax.Array:
    return jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x


@jax.jit
def _led_by_one(part: Any) -> Any:
    return jax.tree.map(lambda x: x[None], part)


@cache
def _reduced(reduction: Callable[[Any], Any], everywhere: NamedSharding) -> Callable[[Any], Any]:
    return jax.jit(reduction, donate_argnums=0, out_shardings=everywhere)
