"""Saving and restoring a run with Orbax: one pytree of arrays, and JSON for what is no array.

The only file that imports Orbax. Nothing here pickles, so that a stranger's checkpoint cannot run code.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy

from jaxpg.errors import UserError


class Checkpoints:
    """The checkpoints of one run, each in a folder named by its iteration.

    Args:
      folder: made when missing.
      keep_newest: how many of the newest are kept.
      keep_every: iterations that are a multiple of one of these are kept for good; 0 stands for none.
      read_only: nothing is made or cleaned up, so that a run which is still being written is left alone.
    """

    def __init__(self, folder: Path, *, keep_newest: int = 1, keep_every: Sequence[int] = (), read_only: bool = False):
        self.folder = folder.absolute()
        keep: list[Any] = [preservation_policy.LatestN(keep_newest)]
        keep += [preservation_policy.EveryNSteps(steps) for steps in keep_every if steps]
        self._manager = ocp.CheckpointManager(
            self.folder,
            item_handlers={  # named here, so that a checkpoint of another process can be looked into
                "state": ocp.StandardCheckpointHandler(),
                "metadata": ocp.JsonCheckpointHandler(),
            },
            options=ocp.CheckpointManagerOptions(
                preservation_policy=preservation_policy.AnyPreservationPolicy(keep),
                cleanup_tmp_directories=not read_only,
                create=not read_only,
                enable_async_checkpointing=False,
            ),
        )

    def iterations(self) -> list[int]:
        """The iterations that have a finished checkpoint, oldest first."""
        return sorted(self._manager.all_steps())

    def save(self, iteration: int, state: Any, metadata: dict[str, Any]) -> None:
        """Writes ``state`` (a pytree of arrays) and ``metadata`` (JSON); returns when both are whole on disk."""
        self._manager.save(
            iteration,
            args=ocp.args.Composite(state=ocp.args.StandardSave(state), metadata=ocp.args.JsonSave(metadata)),
        )
        self._manager.wait_until_finished()

    def restore(self, iteration: int, like: Any) -> tuple[Any, dict[str, Any]]:
        """Reads the checkpoint of ``iteration`` into the structure of ``like`` (arrays or their shapes).

        The arrays come onto this process's first device, whatever device they were saved from: a run on an
        accelerator can be looked at on a CPU.

        Raises:
          UserError: there is none, or it holds arrays of another architecture.
        """
        known = self.iterations()
        if iteration not in known:
            have = f"there are {', '.join(map(str, known))}" if known else "there is none yet"
            raise UserError(f"{self.folder}: no checkpoint of iteration {iteration}; {have}")
        here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here), like)
        try:
            self._check_shapes(iteration, like)
            restored = self._manager.restore(
                iteration,
                args=ocp.args.Composite(state=ocp.args.StandardRestore(like), metadata=ocp.args.JsonRestore()),
            )
        except (ValueError, KeyError, OSError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"{self.folder / str(iteration)}: the checkpoint cannot be read: {reason}") from error
        return restored.state, restored.metadata

    def metadata(self, iteration: int) -> dict[str, Any]:
        """The JSON that was saved with ``iteration``, without the arrays.

        Raises:
          UserError: it is damaged.
        """
        args = ocp.args.Composite(metadata=ocp.args.JsonRestore())
        try:
            return self._manager.restore(iteration, args=args).metadata
        except (ValueError, KeyError, OSError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"{self.folder / str(iteration)}: the checkpoint cannot be read: {reason}") from error

    def close(self) -> None:
        """Releases Orbax's threads."""
        self._manager.close()

    def _check_shapes(self, iteration: int, like: Any) -> None:
        wanted, stored = _shapes(like), _shapes(self._manager.item_metadata(iteration).state.tree)
        for name in sorted(wanted.keys() | stored.keys()):
            if wanted.get(name) != stored.get(name):
                raise UserError(
                    f"{self.folder / str(iteration)}: the checkpoint is of another architecture: {name} is "
                    f"{_describe(stored.get(name))} there, but {_describe(wanted.get(name))} in the configuration"
                )


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {jax.tree_util.keystr(path, simple=True, separator="."): _stored_shape(leaf) for path, leaf in leaves}


def _stored_shape(leaf: Any) -> tuple[int, ...]:
    """The shape on disk, where a typed PRNG key is its plain numbers."""
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.eval_shape(jax.random.key_data, leaf)
    return tuple(leaf.shape)


def _describe(shape: tuple[int, ...] | None) -> str:
    return "absent" if shape is None else f"of shape {list(shape)}"
