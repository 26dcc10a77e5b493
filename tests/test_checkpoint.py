"""Checkpoints: every bit comes back, the right ones are kept, and a wrong one is refused with a sentence."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxpg.checkpoint import Checkpoints
from jaxpg.errors import UserError


class State(NamedTuple):
    params: dict
    optimizer: optax.OptState
    iteration: jax.Array
    key: jax.Array


def state(hidden: int = 5, seed: int = 0) -> State:
    """A state with every kind of leaf, and one optimizer step behind it so that no moment is 0."""
    generator = np.random.default_rng(seed)
    params = {
        "kernel": jnp.asarray(generator.normal(size=(3, hidden)), jnp.float32),
        "half": jnp.asarray(generator.normal(size=hidden), jnp.bfloat16),
        "layers": [{"bias": jnp.arange(hidden, dtype=jnp.int8)}, {"bias": jnp.ones(())}],
    }
    floats = {name: params[name] for name in ("kernel", "half")}
    optimizer = optax.chain(optax.clip_by_global_norm(0.5), optax.adam(1e-3))
    _, moments = optimizer.update(floats, optimizer.init(floats), floats)
    return State(params, moments, jnp.asarray(7, jnp.int32), jax.random.key(3))


def bits(tree) -> list[tuple]:
    plain = jax.tree.map(lambda x: jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x, tree)
    return [(x.dtype.name, x.shape, np.asarray(x).tobytes()) for x in jax.tree.leaves(plain)]


@pytest.fixture
def checkpoints(tmp_path):
    made = Checkpoints(tmp_path / "checkpoints", keep_newest=2)
    yield made
    made.close()


METADATA = {"iteration": 7, "wall_seconds": 0.1 + 0.2, "last_returns": [-21.0, 3.5], "nothing": None, "name": "πong"}


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
    checkpoints.save(1, saved, {})
    assert bits(checkpoints.restore(1, saved)[0]) == bits(saved)


def test_a_typed_key_goes_on_with_the_same_randomness(checkpoints):
    checkpoints.save(1, state(), {})
    key = checkpoints.restore(1, state()._replace(key=jax.random.key(99)))[0].key
    assert jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    assert jax.random.bits(key) == jax.random.bits(jax.random.key(3))


def test_another_process_would_find_the_same(checkpoints, tmp_path):
    checkpoints.save(4, state(), {"iteration": 4})
    other = Checkpoints(tmp_path / "checkpoints")
    assert other.iterations() == [4]
    assert bits(other.restore(4, state(seed=1))[0]) == bits(state())
    other.close()


def test_a_restored_state_can_be_donated(checkpoints):
    """Donation fails for arrays that share memory with something else."""
    checkpoints.save(1, state(), {})
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
        made.save(iteration, {"x": jnp.zeros(1)}, {})
    assert made.iterations() == kept
    assert sorted(int(path.name) for path in (tmp_path / "checkpoints").iterdir()) == kept
    made.close()


def test_what_was_saved_from_an_accelerator_comes_back_on_this_device(checkpoints, tmp_path):
    """Orbax writes down which device every array was on and would look for it."""
    checkpoints.save(1, state(), {})
    (devices,) = (tmp_path / "checkpoints" / "1").rglob("_sharding")
    text = devices.read_text()
    assert "cpu:0" in text
    devices.write_text(text.replace("cpu:0", "cuda:0"))
    assert bits(checkpoints.restore(1, state(seed=1))[0]) == bits(state())


def test_a_missing_iteration_is_refused_with_those_there_are(checkpoints):
    with pytest.raises(UserError, match=r"checkpoints: no checkpoint of iteration 3; there is none yet$"):
        checkpoints.restore(3, state())
    checkpoints.save(5, state(), {})
    checkpoints.save(8, state(), {})
    with pytest.raises(UserError, match=r"checkpoints: no checkpoint of iteration 3; there are 5, 8$"):
        checkpoints.restore(3, state())


def test_another_architecture_is_refused_with_the_array_and_both_shapes(checkpoints):
    checkpoints.save(2, state(hidden=5), {})
    with pytest.raises(UserError) as caught:
        checkpoints.restore(2, state(hidden=6))
    sentence = str(caught.value)
    assert "another architecture" in sentence
    assert "is of shape [5] there, but of shape [6] in the configuration" in sentence
    assert "half" in sentence
    assert "\n" not in sentence


def test_an_array_that_is_absent_on_one_side_is_named(checkpoints):
    checkpoints.save(2, state(), {})
    more = state()._replace(params={**state().params, "value": jnp.zeros(3)})
    with pytest.raises(UserError, match=r"params\.value is absent there, but of shape \[3\] in the configuration"):
        checkpoints.restore(2, more)
    less = state()._replace(params={name: x for name, x in state().params.items() if name != "half"})
    with pytest.raises(UserError, match=r"params\.half is of shape \[5\] there, but absent in the configuration"):
        checkpoints.restore(2, less)


def test_a_damaged_checkpoint_is_refused_with_a_sentence(checkpoints, tmp_path):
    saved = {"x": jnp.arange(1000.0)}  # one array: with more, Orbax leaves reads behind that complain later
    checkpoints.save(2, saved, {})
    data = [path for path in (tmp_path / "checkpoints" / "2" / "state").rglob("*") if path.parent.name == "d"]
    assert data
    for path in data:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UserError, match=r"checkpoints/2: the checkpoint cannot be read: ") as caught:
        checkpoints.restore(2, saved)
    assert "\n" not in str(caught.value)


def test_an_unfinished_checkpoint_is_ignored_and_cleaned_away(tmp_path):
    folder = tmp_path / "checkpoints"
    made = Checkpoints(folder)
    made.save(3, state(), {})
    made.close()
    unfinished = folder / "7.orbax-checkpoint-tmp"
    (unfinished / "state").mkdir(parents=True)
    (unfinished / "state" / "half").write_bytes(b"x")
    again = Checkpoints(folder)
    assert again.iterations() == [3]
    again.save(9, state(), {})
    assert sorted(path.name for path in folder.iterdir()) == ["9"]
    assert bits(again.restore(9, state(seed=1))[0]) == bits(state())
    again.close()


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
