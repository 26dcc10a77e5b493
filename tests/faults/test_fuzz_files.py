"""Whatever the files of a run folder hold, they are read as they were written or refused in one sentence."""

import json
from pathlib import Path

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from jaxpg.core.errors import UserError
from jaxpg.kernel.players import QueueSnapshot
from jaxpg.machine.durable_files import MANIFEST, damage, seal
from jaxpg.run.checkpoint_metadata import Metadata, UnfinishedEpisodes
from jaxpg.run.run_progress import RunProgress
from jaxpg.run.writers import EpisodesCsv, JsonLines

QUEUE = QueueSnapshot(np.array([3, -1]), (np.array([4, 5]),), is_one=False)
METADATA = Metadata(
    progress=RunProgress(iteration=7, metrics={"loss": 0.5}),
    games=UnfinishedEpisodes.of("x", np.ones((3, 2), np.uint8), QUEUE),
).to_json()
METRICS = b"".join(json.dumps({"iteration": i, "loss": 0.5}).encode() + b"\n" for i in range(1, 6))
EPISODES = b"agent_steps,wall_seconds,lane,candidate,return,length_agent_steps\n64,0.1,0,0,9.0,9\n96,0.2,1,0,7.0,7\n"
FUZZ = hypothesis.settings(max_examples=200, deadline=None, derandomize=True, database=None)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@st.composite
def changed(draw: st.DrawFn, content: bytes) -> bytes:
    """``content`` with a few bytes replaced, taken out or put in, or something else altogether."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=300))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(content)))
        end = min(start + draw(st.sampled_from([0, 1, 2, 30])), len(content))
        content = (
            content[:start] + draw(st.binary(max_size=4) | st.sampled_from([b"-", b"1e999", b"NaN"])) + content[end:]
        )
    return content


@st.composite
def with_another_value(draw: st.DrawFn, content: bytes) -> bytes:
    """JSON in which something at some depth is another value."""
    data = json.loads(content)
    place, keys = data, []
    while isinstance(place, dict | list) and place and (not keys or draw(st.booleans())):
        keys.append(draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place)))))
        parent, place = place, place[keys[-1]]
    parent[keys[-1]] = draw(JSON)
    return json.dumps(data).encode()


@FUZZ
@hypothesis.given(content=changed(METADATA) | with_another_value(METADATA))
def test_metadata_is_read_or_refused(content: bytes) -> None:
    try:
        metadata = Metadata.from_json(content)
        actions = metadata.games.unpacked() if metadata.games else np.zeros((0, 0))
    except ValueError as error:
        refusal = str(error)
    else:
        refusal = ""
        assert metadata.games is None or actions.shape == (metadata.games.agent_steps, metadata.games.lanes)
        assert Metadata.from_json(metadata.to_json()) == metadata
    assert "\n" not in refusal


@FUZZ
@hypothesis.given(data=st.data(), kind=st.sampled_from([(JsonLines, METRICS), (EpisodesCsv, EPISODES)]))
def test_a_log_is_read_or_refused(data: st.DataObject, kind: tuple, tmp_path_factory: pytest.TempPathFactory) -> None:
    writer, content = kind
    path = tmp_path_factory.getbasetemp() / f"{writer.__name__}.log"
    path.write_bytes(data.draw(changed(content)))
    before = path.read_bytes()
    try:
        writer(path, 80).close()
    except UserError:
        assert path.read_bytes() == before
        return
    kept = path.read_bytes()
    assert not kept or kept.endswith(b"\n")
    assert writer is EpisodesCsv or kept in before or set(kept.splitlines()) <= set(before.splitlines())


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sealed")
    (folder / "state").mkdir()
    (folder / "state" / "array").write_bytes(bytes(range(200)))
    (folder / "metadata.json").write_bytes(METADATA)
    seal(folder)
    return folder


@FUZZ
@hypothesis.given(data=st.data(), name=st.sampled_from([MANIFEST, "metadata.json", "state/array"]))
def test_a_changed_checkpoint_is_never_taken_for_whole(data: st.DataObject, name: str, sealed: Path) -> None:
    content = (sealed / name).read_bytes()
    other = data.draw(changed(content))
    (sealed / name).write_bytes(other)
    found = damage(sealed)
    (sealed / name).write_bytes(content)
    same = json.loads(other) == json.loads(content) if name == MANIFEST and found is None else other == content
    assert (found is None) == same
    assert damage(sealed) is None
