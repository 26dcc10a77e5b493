"""Saves and restores a run with Orbax: one pytree of arrays, and a JSON file for everything else.

This is the only file that imports Orbax. Nothing here uses pickle, so a stranger's checkpoint cannot run code. Orbax
does not wait until its bytes are on the disk, and it does not notice when they change later. Therefore each checkpoint
gets a manifest of its files.
"""

import errno
import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp

from jaxpg.core.errors import FaultError, UserError, first_line
from jaxpg.core.foreign_files import read_regular
from jaxpg.machine.console import say
from jaxpg.machine.durable_files import check_letters, damage, damage_of_file, seal, sync_folder
from jaxpg.parallel.team import Team
from jaxpg.run.checkpoint_metadata import Metadata
from jaxpg.run.orbax_noise import without_orbax_log

METADATA = "metadata.json"
LANES = "lanes"
MAX_METADATA_BYTES = 1_000_000_000
ROOM_BYTES = 1_000_000
"""Disk space that a checkpoint takes at most besides its arrays and its metadata."""
NOT_ORBAXS = "it is not what Orbax writes"


class Checkpoints:
    """The checkpoints of one run, each in a folder named by its iteration.

    A checkpoint is written into a temporary folder, which is renamed once all bytes are on the disk. So a checkpoint is
    either complete or absent. The manifest in a checkpoint shows whether its files were damaged later.

    Args:
      folder: the folder that holds the checkpoints; the first save creates it.
      team: the processes that save and restore together; None for a single device.
      keep_newest: how many of the newest checkpoints are kept. The best one, which the saved progress names, is kept
        besides.
      keep_every: a checkpoint is kept for good where its iteration is a multiple of one of these; 0 is ignored.
    """

    def __init__(self, folder: Path, team: Team | None = None, *, keep_newest: int = 1, keep_every: Sequence[int] = ()):
        self.folder = folder.absolute()
        self._given_team = team
        self._keep_newest, self._keep_every = keep_newest, [every for every in keep_every if every]
        self._orbax = ocp.StandardCheckpointer()
        self._failed: list[Path] = []
        """Folders of saves that failed. Orbax's threads may still run for a moment and create such a folder again."""

    @property
    def _team(self) -> Team:
        return self._given_team or Team.alone()  # made on first use, because listing checkpoints needs no device

    def iterations(self) -> list[int]:
        """The iterations that have a checkpoint, oldest first."""
        if not self.folder.is_dir():
            return []
        return sorted(int(path.name) for path in self.folder.iterdir() if re.fullmatch(r"0|[1-9]\d{0,11}", path.name))

    def save(self, iteration: int, state: Any, metadata: Metadata, lanes: Any = None) -> None:
        """Writes a checkpoint; returns when all of it is on the disk.

        Args:
          iteration: the checkpoint's number.
          state: a pytree of arrays, the same in all processes.
          metadata: everything else.
          lanes: a pytree of arrays that are sharded over all lanes; None where lanes are not saved.

        Raises:
          OSError: the checkpoint cannot be written. Nothing is left of it, and the older checkpoints stay.
          FaultError: one of several processes cannot write its part, while the other processes wait for it.
        """
        unfinished = self.folder / f"{iteration}.unfinished"
        text = metadata.to_json()
        team = self._team
        state = team.replicated(state)
        num_bytes = sum(x.nbytes for x in jax.tree.leaves((state, lanes))) + len(text)
        team.lead(lambda: self._prepare(unfinished, num_bytes))
        try:
            with without_orbax_log():
                self._orbax.save(unfinished / "state", state)
                self._orbax.wait_until_finished()
                if lanes is not None:
                    self._orbax.save(unfinished / LANES, _by_number(lanes))
                    self._orbax.wait_until_finished()
        except (OSError, ValueError) as error:  # TensorStore raises ValueError when the disk is full
            if team.num_processes > 1:
                raise FaultError(f"iteration {iteration} cannot be saved: {first_line(error)}") from error
            self._failed.append(unfinished)
            self._remove_failed()
            raise OSError(first_line(error)) from error
        team.lead(lambda: self._finish(unfinished, iteration, text, metadata.progress.best_iteration))

    def _prepare(self, unfinished: Path, num_bytes: int) -> None:
        if not self.folder.parent.is_dir():
            raise OSError(f"the run folder is gone; put it back as {self.folder.parent}")
        self._remove(unfinished)
        self._remove_failed()
        self.folder.mkdir(exist_ok=True)
        _check_room(self.folder, num_bytes)
        unfinished.mkdir()

    def _finish(self, unfinished: Path, iteration: int, text: bytes, best: int | None) -> None:
        try:
            (unfinished / METADATA).write_bytes(text)
            seal(unfinished)
            self._remove(self.folder / str(iteration))
            unfinished.rename(self.folder / str(iteration))
            sync_folder(self.folder)
        except OSError:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise
        self._prune(best)

    def restore(
        self, iteration: int, like: Any, check: Callable[[Metadata], None] | None = None
    ) -> tuple[Any, Metadata]:
        """Reads the checkpoint of ``iteration``.

        The arrays are placed on this process's first device, whatever devices they were saved from. So a run that was
        trained on an accelerator can be evaluated on a CPU.

        Args:
          iteration: the iteration of the checkpoint.
          like: a pytree of arrays or of their shapes, with the structure that the state must have.
          check: raises UserError where the metadata shows that the checkpoint is of no use. It is called before the
            shapes of the arrays are compared.

        Returns:
          The state, and the metadata.

        Raises:
          UserError: the checkpoint does not exist, is damaged, or belongs to another architecture, optimizer or
            learner.
        """
        self._check_damage(iteration, damage)
        return self._restore(iteration, like, check)

    def _restore(self, iteration: int, like: Any, check: Callable[[Metadata], None] | None) -> tuple[Any, Metadata]:
        check_letters(self.folder)
        metadata = self._read_metadata(iteration)
        if check:
            check(metadata)
        path, team = self.folder / str(iteration), self._team
        like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=team.everywhere), like)
        with _readable(path):
            self._check_shapes(path, like)
            return team.here(self._orbax.restore(path / "state", like)), metadata

    def lanes(self, iteration: int, like: Any) -> Any:
        """Reads the lanes of the checkpoint of ``iteration``, whose files have been checked.

        Args:
          iteration: the iteration of the checkpoint.
          like: a pytree of the shapes that the lanes must have.

        Returns:
          The lanes, sharded over all devices.

        Raises:
          UserError: the checkpoint holds no lanes, or lanes of another environment.
        """
        path, team = self.folder / str(iteration) / LANES, self._team
        like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=team.by_lanes), like)
        leaves, structure = jax.tree.flatten(like)
        with _readable(path):
            stored = self._stored(path)
            if {name: (tuple(x.shape), x.dtype) for name, x in stored.items()} != {
                name: (x.shape, x.dtype) for name, x in _by_number(like).items()
            }:
                raise UserError(
                    f"{path}: the saved lanes are of another environment; --checkpoint.no-replay begins new games"
                )
            restored = self._orbax.restore(path, _by_number(like))
        return jax.tree.unflatten(structure, [restored[name] for name in _by_number(leaves)])

    def metadata(self, iteration: int) -> Metadata:
        """Reads only the metadata of the checkpoint of ``iteration``; the arrays are neither read nor checked.

        Raises:
          UserError: the checkpoint does not exist, or its metadata is damaged.
        """
        self._check_damage(iteration, partial(damage_of_file, name=METADATA))
        return self._read_metadata(iteration)

    def _check_damage(self, iteration: int, find: Callable[[Path], str | None]) -> None:
        """Raises UserError where the checkpoint does not exist or ``find`` returns a damage of its folder."""
        known = self.iterations()
        if iteration not in known:
            few = "the only saved iteration is" if len(known) == 1 else "saved iterations are"
            have = f"{few} {', '.join(map(str, known))}" if known else "there is none yet"
            raise UserError(f"{self.folder}: no checkpoint of iteration {iteration}; {have}")
        path = self.folder / str(iteration)
        if found := find(path):
            raise UserError(f"{path}: the checkpoint is damaged: {found}")

    def _read_metadata(self, iteration: int) -> Metadata:
        path = self.folder / str(iteration)
        try:
            return Metadata.from_json(read_regular(path / METADATA, MAX_METADATA_BYTES))
        except (ValueError, OSError) as error:
            raise _unreadable(path, error) from error

    def newest_whole(self, like: Any, check: Callable[[Metadata], None] | None = None) -> tuple[Any, Metadata] | None:
        """Reads the newest checkpoint that is not damaged, as ``restore`` does; None where there is no checkpoint.

        Newer checkpoints that are damaged are renamed, and the remains of an interrupted save are removed. A sentence
        on stderr names each of them.

        Raises:
          UserError: all checkpoints are damaged, or the newest undamaged one belongs to another architecture.
        """
        iteration = self._team.lead(self._set_damaged_aside)
        return None if iteration is None else self._restore(iteration, like, check)  # its files were just checked

    def _set_damaged_aside(self) -> int | None:
        """Returns the iteration of the newest undamaged checkpoint, and renames the damaged ones after it."""
        for path in self.folder.glob("*.unfinished"):
            _say(f"{path}: this save was interrupted; its folder is removed")
            self._remove(path)
        for path in self.folder.glob("*.removed"):
            self._remove(path)
        for iteration in reversed(self.iterations()):
            path = self.folder / str(iteration)
            found = damage(path)
            if not found:
                return iteration
            aside = path.with_name(f"{iteration}.damaged")
            self._remove(aside)
            path.rename(aside)
            _say(f"{path}: the checkpoint is damaged: {found}; it is now {aside.name}, and the one before it is used")
        if any(self.folder.glob("*.damaged")):
            raise UserError(f"{self.folder}: every checkpoint is damaged; without this folder the run begins anew")
        return None

    def close(self) -> None:
        """Ends Orbax's threads."""
        self._orbax.close()
        self._remove_failed()

    def _remove_failed(self) -> None:
        for path in self._failed:
            shutil.rmtree(path, ignore_errors=True)

    def _prune(self, best: int | None) -> None:
        for iteration in self.iterations()[: -self._keep_newest]:
            if iteration != best and all(iteration % every for every in self._keep_every):
                self._remove(self.folder / str(iteration))

    def _remove(self, path: Path) -> None:
        """Renames a folder before removing it, so that a half-removed folder is not taken for a checkpoint."""
        if path.is_dir():
            removed = path.with_suffix(".removed")
            path.rename(removed)
            shutil.rmtree(removed)

    def _stored(self, path: Path) -> Any:
        """What a folder of Orbax says about its arrays, as a pytree.

        Raises:
          ValueError: this is no folder of Orbax, or an array's pieces are larger than the array, and take more memory.
        """
        found = self._orbax.metadata(path).item_metadata
        if found is None:
            raise ValueError(NOT_ORBAXS)
        for leaf in jax.tree.leaves(found.tree):
            pieces = leaf.storage.chunk_shape if leaf.storage else None
            if pieces and any(piece > max(size, 1) for piece, size in zip(pieces, leaf.shape, strict=True)):
                raise ValueError("an array is stored in pieces that are larger than the array")
        return found.tree

    def _check_shapes(self, path: Path, like: Any) -> None:
        wanted, stored = _shapes(like), _shapes(self._stored(path / "state"))
        differing = [name for name in wanted.keys() | stored.keys() if wanted.get(name) != stored.get(name)]
        if differing:
            name = min(differing, key=lambda name: (not name.startswith("params."), name))
            raise UserError(
                f"{path}: the checkpoint is of another {_OWNERS.get(name.split('.')[0], _OTHERS)}: {name} is "
                f"{_describe(stored.get(name))} there, but {_describe(wanted.get(name))} in the configuration"
            )


def _by_number(tree: Any) -> dict[str, Any]:
    """The leaves of a pytree by their number, because Orbax does not know the classes of a user's states."""
    return {f"{number:04}": leaf for number, leaf in enumerate(jax.tree.leaves(tree))}


_OWNERS = {"params": "architecture", "optimizer": "optimizer"}
_OTHERS = "learner, or of another version of jaxpg"
"""What the user changed where a part of the learner's state, named by its first key, does not fit the checkpoint."""


def _check_room(folder: Path, num_bytes: int) -> None:
    """Raises OSError before a save that would fill the disk, because TensorStore's threads do not end cleanly then."""
    if shutil.disk_usage(folder).free < num_bytes + ROOM_BYTES:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _say(sentence: str) -> None:
    say(f"jaxpg: {sentence}", error=True)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turns the errors that Orbax raises at files which it did not write itself, which are of any kind, into one."""
    try:
        with without_orbax_log():
            yield
    except (UserError, MemoryError):
        raise
    except Exception as error:
        if isinstance(error, RuntimeError) and not isinstance(error, RecursionError):
            raise  # of JAX, such as a device without memory
        in_words = error if isinstance(error, ValueError | KeyError | OSError) else ValueError(NOT_ORBAXS)
        raise _unreadable(path, in_words) from error


def _unreadable(path: Path, error: Exception) -> UserError:
    return UserError(f"{path}: the checkpoint cannot be read: {first_line(error)}")


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {jax.tree_util.keystr(path, simple=True, separator="."): _stored_shape(leaf) for path, leaf in leaves}


def _stored_shape(leaf: Any) -> tuple[int, ...]:
    """The shape of a leaf on disk, where a typed PRNG key is stored as its key data."""
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.eval_shape(jax.random.key_data, leaf)
    return tuple(leaf.shape)


def _describe(shape: tuple[int, ...] | None) -> str:
    return "absent" if shape is None else f"of shape {list(shape)}"
