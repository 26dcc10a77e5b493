"""The team: all devices that work on one run, in one or several processes that run the same program.

JAX calls this arrangement multi-controller. The ordinary case, one device in one process, uses the same code and has
nothing to reduce. Every process keeps the learner's whole state on its first device and computes the same updates. The
processes differ only in the lanes that they play. They exchange sums of gradients, a few numbers for each agent step,
and finished episodes.
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
"""Bytes of content that fit into the first message of ``Team.gather``."""


@dataclass(frozen=True)
class Team:
    """All devices of a run, and the collective operations between them.

    All processes must call ``gather``, ``lead``, ``together``, ``check_alike`` and ``reduce`` in the same order.
    """

    mesh: Mesh
    """All devices of all processes on the axis ``data``. The devices of one process are neighbours."""
    process: int = 0
    """Number of this process. Process 0 leads: only process 0 writes files."""
    num_processes: int = 1

    @classmethod
    def of(cls, devices: Sequence[jax.Device], process: int = 0, num_processes: int = 1) -> "Team":
        """The team that consists of these devices."""
        in_order = sorted(devices, key=lambda device: (device.process_index, device.id))
        return cls(Mesh(np.array(in_order), (AXIS,)), process, num_processes)

    @classmethod
    def alone(cls) -> "Team":
        """The team of one device in one process."""
        return cls.of(local_devices()[:1])

    @property
    def leads(self) -> bool:
        return self.process == 0

    @property
    def num_devices(self) -> int:
        """Number of devices in all processes (D)."""
        return int(self.mesh.size)

    @property
    def devices(self) -> tuple[jax.Device, ...]:
        """Devices of this process, in the order of the mesh."""
        return tuple(self.mesh.local_devices)

    @property
    def first_device(self) -> int:
        """Index of this process's first device among all devices."""
        return self.process * len(self.devices)

    def sharded(self, parts: Sequence[Any], axis: int) -> Any:
        """Concatenates all devices' parts along ``axis`` into one sharded array per leaf, without copying.

        Args:
          parts: one pytree of arrays for each device of this process, each already on its device.
          axis: the axis along which the parts are concatenated.
        """
        sharding = NamedSharding(self.mesh, PartitionSpec(*(None,) * axis, AXIS))

        def together(*shards: jax.Array) -> jax.Array:
            shape = list(shards[0].shape)
            shape[axis] *= self.num_devices
            return jax.make_array_from_single_device_arrays(tuple(shape), sharding, list(shards))

        return jax.tree.map(together, *parts)

    def replicated(self, tree: Any) -> Any:
        """Replicates a pytree, which is the same in all processes, on all devices."""
        sharding = self.everywhere

        def spread(x: jax.Array) -> jax.Array:
            if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
                return _as_key(spread(jax.random.key_data(x)), jax.random.key_impl(x))
            shards = [jax.device_put(x, device) for device in self.devices]
            return jax.make_array_from_single_device_arrays(x.shape, sharding, shards)

        return jax.tree.map(spread, tree)

    @property
    def everywhere(self) -> NamedSharding:
        """Sharding with the whole array on every device."""
        return NamedSharding(self.mesh, PartitionSpec())

    @property
    def by_lanes(self) -> NamedSharding:
        """Sharding of arrays whose leading axis is that of the lanes."""
        return NamedSharding(self.mesh, PartitionSpec(AXIS))

    def here(self, tree: Any, device: int = 0) -> Any:
        """The part of a pytree, or its copy, on one of this process's devices, without copying."""
        wanted = self.devices[device]
        return jax.tree.map(lambda x: next(s.data for s in x.addressable_shards if s.device == wanted), tree)

    def reduce(self, reduction: Callable[[Any], Any], parts: Sequence[Any]) -> Any:
        """Reduces the parts of all devices to one result, on the first device of every process.

        The result is the same in every process. With a single device, the result is that device's part as it is.

        Args:
          reduction: a pure function of a pytree whose leaves have a leading axis of length D, one entry per device. The
            compiler inserts the communication.
          parts: one pytree for each device of this process.
        """
        if self.num_devices == 1:
            return parts[0]  # no copy: copying a gradient would cost time (docs/performance.md)
        together = self.sharded([_led_by_one(part) for part in parts], axis=0)
        return self.here(_reduced(reduction, self.everywhere)(together))

    def gather(self, content: Any) -> list[Any]:
        """Collects the content of every process, in the order of the processes.

        Args:
          content: JSON values and bytes, nested in any way.
        """
        if self.num_processes == 1:
            return [content]
        packed = msgpack.packb(content)
        heads = self._gather_bytes(len(packed).to_bytes(4, "big") + packed[:ENVELOPE_BYTES], 4 + ENVELOPE_BYTES)
        sizes = [int.from_bytes(head[:4], "big") for head in heads]
        messages = [head[4:] for head in heads]
        if max(sizes) > ENVELOPE_BYTES:  # a power of two, so that few sizes are compiled
            messages = self._gather_bytes(packed, 1 << (max(sizes) - 1).bit_length())
        return [msgpack.unpackb(padded[:size]) for padded, size in zip(messages, sizes, strict=True)]

    def _gather_bytes(self, content: bytes, size: int) -> list[bytes]:
        """Collects the bytes of every process. ``size`` is the common size to which the bytes are padded with zeros."""
        rows = multihost_utils.process_allgather(np.frombuffer(content.ljust(size, b"\0"), np.uint8))
        return [row.tobytes() for row in rows]

    def lead(self, work: Callable[[], T]) -> T:
        """Calls ``work`` in process 0 only, and returns its result, a JSON value, in every process.

        Raises:
          UserError, OSError: ``work`` raised this error in process 0. Every process raises it.
        """
        return self._shared([work] if self.leads else [])[0]

    def together(self, work: Callable[[], T]) -> T:
        """Calls ``work`` in every process, and returns the result of this process.

        Raises:
          UserError, OSError: ``work`` raised this error in the first process that failed. Every process raises it.
        """
        kept: list[T] = []
        self._shared([lambda: kept.append(work())])
        return kept[0]

    def check_same_settings(self, settings: Mapping[str, Any]) -> None:
        """Checks that all processes have the same settings. Must be called before anything is written.

        Args:
          settings: JSON values by the names that the user knows. All processes have the same names.

        Raises:
          UserError: settings differ. Every process raises the error, which names the first differing settings and
            their values.
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
        """Checks that a pytree has the same bits in all processes; otherwise they would continue as different runs.

        Args:
          tree: a pytree of arrays.
          what: the name of the pytree, for the error sentence.

        Raises:
          RuntimeError: some processes have different bits.
        """
        if self.num_processes == 1:
            return
        digest = hashlib.sha256()
        for leaf in jax.tree.leaves(jax.tree.map(_plain, tree)):
            digest.update(np.asarray(leaf).tobytes())
        digests = self.gather(digest.hexdigest())
        odd = [str(process) for process, other in enumerate(digests) if other != digests[0]]
        if odd:
            raise RuntimeError(f"process {', '.join(odd)} has a different {what} than process 0")

    def _shared(self, works: list[Callable[[], T]]) -> list[T]:
        """Calls ``works`` in this process and returns the results of all processes.

        If the work fails in some process, every process raises the error of the first such process.
        """
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
        for kind, outcome in said:
            if kind:
                raise (UserError if kind == "UserError" else OSError)(outcome) from error
        return [result for _, outcome in said for result in outcome]


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
