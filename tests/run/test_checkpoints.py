"""Checkpoints: every bit comes back, the right ones are kept, and a wrong one is refused with a sentence."""

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import optax
import pytest

from jaxpg.core.errors import UserError
from jaxpg.machine import durable_files as durable
from jaxpg.machine.durable_files import seal
from jaxpg.run.checkpoint_metadata import Metadata
from jaxpg.run.checkpoints import Checkpoints
from jaxpg.run.lock import only_trainer
from jaxpg.run.run_progress import RunProgress
from tests.checkpoint_states import METADATA, bits, state


def test_a_checkpoint_comes_back_bit_by_bit(checkpoints):
    saved = state()
    checkpoints.save(7, saved, METADATA)
    restored, metadata = checkpoints.restore(7, state(seed=1))
    assert jax.tree.structure(restored) == jax.tree.structure(saved)
    assert bits(restored) == bits(saved)
    assert bits(restored) != bits(state(seed=1))
    assert metadata == METADATA


def test_numbers_that_are_no_numbers_come_back_too(checkpoints):
    saved = state()._replace(params={"x": jnp.array([jnp.nan, -0.0, jnp.inf, 1e-45], jnp.float32)})
    checkpoints.save(1, saved, METADATA)
    assert bits(checkpoints.restore(1, saved)[0]) == bits(saved)


def test_a_typed_key_goes_on_with_the_same_randomness(checkpoints):
    checkpoints.save(1, state(), METADATA)
    key = checkpoints.restore(1, state()._replace(key=jax.random.key(99)))[0].key
    assert jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    assert jax.random.bits(key) == jax.random.bits(jax.random.key(3))


def test_another_process_would_find_the_same(checkpoints, tmp_path):
    checkpoints.save(4, state(), METADATA)
    other = Checkpoints(tmp_path / "checkpoints")
    assert other.iterations() == [4]
    assert bits(other.restore(4, state(seed=1))[0]) == bits(state())
    other.close()


def test_a_restored_state_can_be_donated(checkpoints):
    """Donation fails for arrays that share memory with something else."""
    checkpoints.save(1, state(), METADATA)
    restored, _ = checkpoints.restore(1, state())
    add = jax.jit(lambda x: jax.tree.map(lambda leaf: leaf + 1, x), donate_argnums=0)
    assert float(add({"kernel": restored.params["kernel"]})["kernel"][0, 0]) == float(
        state().params["kernel"][0, 0] + 1
    )


@pytest.mark.parametrize(
    ("newest", "every", "kept"),
    [
        (1, (), [10]),
        (2, (0, 0), [9, 10]),
        (2, (4,), [4, 8, 9, 10]),
        (1, (0, 5), [5, 10]),
        (1, (4, 3), [3, 4, 6, 8, 9, 10]),
        (20, (), list(range(1, 11))),
    ],
)
def test_the_newest_and_every_nth_are_kept(newest, every, kept, tmp_path):
    made = Checkpoints(tmp_path / "checkpoints", keep_newest=newest, keep_every=every)
    for iteration in range(1, 11):
        made.save(iteration, {"x": jnp.zeros(1)}, METADATA)
    assert made.iterations() == kept
    assert sorted(int(path.name) for path in (tmp_path / "checkpoints").iterdir()) == kept
    made.close()


def test_the_best_one_is_kept_until_there_is_a_better_one(tmp_path):
    made = Checkpoints(tmp_path / "checkpoints", keep_newest=2)
    kept = []
    for iteration, best in enumerate([None, 2, 2, 2, 2, 6, 6, 6], start=1):
        made.save(iteration, {"x": jnp.zeros(1)}, replace(METADATA, progress=RunProgress(best_iteration=best)))
        kept.append(made.iterations())
    assert kept == [[1], [1, 2], [2, 3], [2, 3, 4], [2, 4, 5], [5, 6], [6, 7], [6, 7, 8]]
    made.close()


def test_what_a_checkpoint_says_is_read_without_its_arrays(checkpoints, tmp_path, monkeypatch):
    """Choosing the best one and a report look at every checkpoint, and arrays may be gigabytes."""
    checkpoints.save(3, state(), METADATA)
    looked_at = []
    size_and_hash = durable.size_and_hash
    monkeypatch.setattr(durable, "size_and_hash", lambda path: (looked_at.append(path.name), size_and_hash(path))[1])
    damaged(tmp_path / "checkpoints" / "3", "flipped")
    assert checkpoints.metadata(3) == METADATA
    assert looked_at == ["metadata.json"]
    with pytest.raises(UserError, match="is not what was saved"):
        checkpoints.restore(3, state())
    (tmp_path / "checkpoints" / "3" / "metadata.json").write_text("{}")
    with pytest.raises(UserError, match="metadata.json is not what was saved"):
        checkpoints.metadata(3)


def test_a_resumed_run_looks_at_each_byte_once(checkpoints, monkeypatch):
    checkpoints.save(3, state(), METADATA)
    looked_at = []
    size_and_hash = durable.size_and_hash
    monkeypatch.setattr(durable, "size_and_hash", lambda path: (looked_at.append(path), size_and_hash(path))[1])
    assert bits(checkpoints.newest_whole(state(seed=1))[0]) == bits(state())
    assert len(looked_at) == len(set(looked_at)) > 3


def test_what_was_saved_from_an_accelerator_comes_back_on_this_device(checkpoints, tmp_path):
    """Orbax writes down which device every array was on and would look for it."""
    checkpoints.save(1, state(), METADATA)
    (devices,) = (tmp_path / "checkpoints" / "1").rglob("_sharding")
    text = devices.read_text()
    mesh = r"\"mesh\": [{\"id\": 0}]"
    assert mesh in text
    devices.write_text(text.replace(mesh, mesh.replace("0", "7")))
    seal(tmp_path / "checkpoints" / "1")
    assert bits(checkpoints.restore(1, state(seed=1))[0]) == bits(state())


def test_a_folder_whose_name_the_locale_cannot_read_is_refused(tmp_path):
    """As where Python decodes the bytes of a UTF-8 name as ASCII; Orbax would fail with a traceback."""
    folder = tmp_path / "mövéd".encode().decode("ascii", "surrogateescape")
    (folder / "checkpoints" / "3").mkdir(parents=True)
    (folder / "checkpoints" / "3" / "metadata.json").write_text("{}")
    seal(folder / "checkpoints" / "3")
    unreadable = "the locale of this process has no letters for this name; set PYTHONUTF8=1"
    with pytest.raises(UserError, match=unreadable):
        Checkpoints(folder / "checkpoints").restore(3, state())
    with pytest.raises(UserError, match=unreadable), only_trainer(folder):
        pass


def test_a_missing_iteration_is_refused_with_those_there_are(checkpoints):
    with pytest.raises(UserError, match=r"checkpoints: no checkpoint of iteration 3; there is none yet$"):
        checkpoints.restore(3, state())
    checkpoints.save(5, state(), METADATA)
    with pytest.raises(UserError, match=r"iteration 3; the only saved iteration is 5$"):
        checkpoints.restore(3, state())
    checkpoints.save(8, state(), METADATA)
    with pytest.raises(UserError, match=r"checkpoints: no checkpoint of iteration 3; saved iterations are 5, 8$"):
        checkpoints.restore(3, state())


def test_another_architecture_is_refused_with_the_array_and_both_shapes(checkpoints):
    checkpoints.save(2, state(hidden=5), METADATA)
    with pytest.raises(UserError) as caught:
        checkpoints.restore(2, state(hidden=6))
    sentence = str(caught.value)
    assert "another architecture" in sentence
    assert "is of shape [5] there, but of shape [6] in the configuration" in sentence
    assert "half" in sentence
    assert "\n" not in sentence


def test_a_state_of_other_parts_is_refused_as_another_optimizers_or_learners(checkpoints):
    checkpoints.save(2, state(), METADATA)
    other = {
        "optimizer": state()._replace(optimizer=optax.sgd(1.0, momentum=0.9).init(jnp.zeros(3))),
        "learner, or of another version of jaxpg": state()._replace(iteration=jnp.zeros(2, jnp.int32)),
    }
    for whose, like in other.items():
        with pytest.raises(UserError, match=f"the checkpoint is of another {whose}: "):
            checkpoints.restore(2, like)


def test_an_array_that_is_absent_on_one_side_is_named(checkpoints):
    checkpoints.save(2, state(), METADATA)
    more = state()._replace(params={**state().params, "value": jnp.zeros(3)})
    with pytest.raises(UserError, match=r"params\.value is absent there, but of shape \[3\] in the configuration"):
        checkpoints.restore(2, more)
    less = state()._replace(params={name: x for name, x in state().params.items() if name != "half"})
    with pytest.raises(UserError, match=r"params\.half is of shape \[5\] there, but absent in the configuration"):
        checkpoints.restore(2, less)


def damaged(folder, how):
    (data, *_) = sorted(path for path in (folder / "state").rglob("*") if path.parent.name == "d")
    content = data.read_bytes()
    if how == "truncated":
        data.write_bytes(content[:-1])
    elif how == "flipped":
        data.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    elif how == "missing":
        data.unlink()
    elif how == "extra":
        (data.parent / "more").write_bytes(b"")
    elif how == "unsealed":
        (folder / "manifest.json").unlink()
    elif how == "linked":
        data.rename(folder.parent / "elsewhere")
        data.symlink_to(folder.parent / "elsewhere")
    else:
        (folder / "manifest.json").write_text(how)


DAMAGES = ["truncated", "flipped", "missing", "extra", "linked", "unsealed", "", "[]"]
DAMAGES += ['{"files": {}}', '{"files": {"a": 1}}', '{"files": {"metadata.json": []}}']


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_checkpoint_is_refused_and_set_aside_for_the_one_before(how, checkpoints, tmp_path, capsys):
    checkpoints.save(2, state(seed=2), METADATA)
    checkpoints.save(3, state(seed=3), METADATA)
    damaged(tmp_path / "checkpoints" / "3", how)
    with pytest.raises(UserError, match=r"checkpoints/3: the checkpoint is damaged: "):
        checkpoints.restore(3, state())
    restored, _ = checkpoints.newest_whole(state())
    assert bits(restored) == bits(state(seed=2))
    assert "checkpoints/3: the checkpoint is damaged: " in capsys.readouterr().err
    assert (tmp_path / "checkpoints" / "3.damaged").is_dir()
    assert checkpoints.iterations() == [2]
    damaged(tmp_path / "checkpoints" / "2", how)
    for _ in range(2):  # the second time they are set aside already
        with pytest.raises(UserError, match=r"checkpoints: every checkpoint is damaged"):
            checkpoints.newest_whole(state())


def test_names_that_begin_with_a_dot_are_no_damage(checkpoints, tmp_path):
    checkpoints.save(3, state(), METADATA)
    (tmp_path / "checkpoints" / "3" / ".DS_Store").write_bytes(b"x")
    assert bits(checkpoints.restore(3, state(seed=1))[0]) == bits(state())


@pytest.mark.parametrize(
    "metadata",
    [
        b"",
        b"[1",
        b"{}",
        b"[" * 100_000,
        b'{"progress": {"iteration": -1}, "games": null}',
        b'{"progress": {"iteration": "1"}, "games": null}',
        b'{"progress": {"wall_seconds": NaN}, "games": null}',
        b'{"progress": {"last_returns": [' + b"0," * 100 + b'0]}, "games": null}',
        b'{"progress": {}, "games": {"agent_steps": 1}}',
        b'{"progress": {}, "games": null, "more": 1}',
    ],
)
def test_metadata_of_another_form_is_refused_with_a_sentence(metadata, checkpoints, tmp_path):
    checkpoints.save(3, state(), METADATA)
    folder = tmp_path / "checkpoints" / "3"
    (folder / "metadata.json").write_bytes(metadata)
    seal(folder)
    with pytest.raises(UserError, match=r"checkpoints/3: the checkpoint cannot be read: ") as caught:
        checkpoints.restore(3, state())
    assert "\n" not in str(caught.value)


def test_where_there_is_no_checkpoint_there_is_none(checkpoints):
    assert checkpoints.newest_whole(state()) is None
    assert checkpoints.iterations() == []


def test_nothing_is_pickled_or_unpickled(checkpoints, tmp_path, monkeypatch):
    def forbidden(*args, **kwargs):
        raise AssertionError("pickle was used")

    for name in ("dump", "dumps", "load", "loads", "Pickler", "Unpickler"):
        monkeypatch.setattr(f"pickle.{name}", forbidden)
    checkpoints.save(1, state(), METADATA)
    checkpoints.restore(1, state())
    files = [path for path in (tmp_path / "checkpoints").rglob("*") if path.is_file()]
    assert len(files) > 3
    for path in files:
        assert path.suffix not in {".pkl", ".pickle", ".npy", ".npz", ".pt"}, path
        start = path.read_bytes()[:2]
        assert not (start[:1] == b"\x80" and start[1:] in {b"\x02", b"\x03", b"\x04", b"\x05"}), path


ODD_FILES = {
    "deep": ("_METADATA", lambda text: "[" * 100_000),
    "a list": ("_METADATA", lambda text: "[]"),
    "nothing": ("_METADATA", lambda text: '{"tree_metadata": null}'),
    "other kinds": ("_METADATA", lambda text: text.replace("jax.Array", "os.system")),
    "other places": ("_METADATA", lambda text: text.replace('"kernel"', '"../../../kernel"')),
    "deep shardings": ("_sharding", lambda text: "[" * 100_000),
}


@pytest.mark.parametrize("odd", ODD_FILES)
def test_what_orbax_did_not_write_is_refused_with_a_sentence(odd, checkpoints, tmp_path, capfd):
    """The manifest of a stranger's checkpoint vouches for whatever the stranger has put there."""
    checkpoints.save(3, state(), METADATA)
    folder = tmp_path / "checkpoints" / "3"
    name, change = ODD_FILES[odd]
    path = folder / "state" / name
    path.write_text(change(path.read_text()))
    seal(folder)
    capfd.readouterr()
    with pytest.raises(UserError, match=r"checkpoints/3: the checkpoint cannot be read: it is not what Orbax writes"):
        checkpoints.restore(3, state())
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("number", ["1e308", "9" * 400, "NaN"])
@pytest.mark.parametrize("place", ['"metrics": {"kl": %s}', '"last_returns": [%s]', '"wall_seconds": %s'])
def test_numbers_whose_sums_are_not_finite_are_refused(place, number):
    with pytest.raises(ValueError, match="progress"):
        Metadata.from_json(('{"progress": {' + place % number + '}, "games": null}').encode())


def test_arrays_in_pieces_that_are_larger_than_they_are_take_no_memory(checkpoints, tmp_path):
    import tensorstore

    checkpoints.save(3, state(), METADATA)
    folder = tmp_path / "checkpoints" / "3"
    store = tensorstore.KvStore.open({"driver": "ocdbt", "base": f"file://{folder / 'state'}/"}).result()
    for name in (name for name in store.list().result() if name.endswith(b".zarray")):
        array = json.loads(store[name])
        store[name] = json.dumps(array | {"chunks": [40_000 for _ in array["chunks"]]}).encode()
    seal(folder)
    with pytest.raises(UserError, match="cannot be read: an array is stored in pieces that are larger than the array"):
        checkpoints.restore(3, state())
