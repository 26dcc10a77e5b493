"""``python -m jaxpg.record``: real videos of real games, taken apart again."""

import dataclasses
import json
import subprocess
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest

import jaxpg.record as record_module
from jaxpg.config import load_run
from jaxpg.core.errors import UserError
from jaxpg.envs import make_env
from jaxpg.experiment import Player, build
from jaxpg.record import main
from jaxpg.run.saved_run import restore_params
from jaxpg.viewing import filming
from jaxpg.viewing.drawn_observation import draw_observation
from jaxpg.viewing.grid import CAPTION_HEIGHT, DIMMED, GAP
from jaxpg.viewing.panel import GAME_SIZE, PAPER, SIZE, scale_game
from jaxpg.viewing.replayed_episode import COLORS, Moves, frame_by_frame, frames_of_agent_steps, play
from tests.helpers import action_names
from tests.runs import cartpole, nobody_reads_stdout, run

pytestmark = pytest.mark.usefixtures("quick_compilation")  # no video is compared with one made without it
AGENT_STEPS = 20
"""Of every game, of four frames each."""
FRAMES = 4 * AGENT_STEPS
SMALL = [
    *(
        "--env.num-lanes",
        "2",
        "--env.max-episode-agent-steps",
        str(AGENT_STEPS),
        "--env.sticky-action-probability",
        "0.25",
    ),
    *("--reinforce.rollout-agent-steps", "8", "--policy.hidden", "8", "--checkpoint.every-iterations", "2"),
    *("--run.budget-agent-steps", "64"),
]
ALE = [
    *("--env.backend", "ale", "--env.no-maxpool", "--env.noop-max", "0", "--policy.name", "linear"),
    *("--reinforce.reward-transform", "none", "--reinforce.no-cut-at-life-loss"),
]
GAMES = {
    "pong": ["--env.game", "Pong"],
    "gray": ["--env.game", "MsPacman", *ALE, "--observation.name", "flat_gray"],
    "ram": ["--env.game", "MsPacman", *ALE, "--observation.name", "ram"],
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    """A short run of each kind, and one of CartPole."""
    runs = {name: tmp_path_factory.mktemp("recorded") / name for name in GAMES}
    for name, folder in runs.items():
        run(*GAMES[name], *SMALL, "--run.dir", str(folder))
    return runs | {"cartpole": cartpole(tmp_path_factory.mktemp("recorded") / "cartpole", iterations=1)}


def _record(*argv: str | Path, code: int = 0) -> None:
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in argv])
    assert end.value.code == code


def _frames(path: Path, size: tuple[int, int] = SIZE) -> np.ndarray:
    """All frames, decoded: ``uint8[K, height, width, 3]``."""
    ffmpeg = imageio_ffmpeg.get_ffmpeg_exe()
    about = subprocess.run([ffmpeg, "-i", path], capture_output=True, text=True, check=False).stderr
    assert f"Video: h264 (High) (avc1 / 0x31637661), yuv420p(progressive), {size[0]}x{size[1]}" in about
    assert "60 fps" in about
    raw = subprocess.run(
        [ffmpeg, "-v", "error", "-i", path, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"], capture_output=True, check=True
    )
    assert not raw.stderr
    return np.frombuffer(raw.stdout, np.uint8).reshape(-1, size[1], size[0], 3)


@pytest.mark.parametrize("name", GAMES)
def test_a_game_is_shown_frame_by_frame_at_true_speed(folders: dict[str, Path], name: str, tmp_path: Path) -> None:
    out = tmp_path / "game.mp4"
    with nobody_reads_stdout():
        _record(folders[name], "--out", out)
    assert set(tmp_path.iterdir()) == {out, tmp_path / "game.json"}, "nothing unfinished is left"
    frames = _frames(out)
    assert len(frames) == FRAMES
    assert len({frame.tobytes() for frame in frames}) > AGENT_STEPS, "more than one picture an agent step"
    assert np.abs(frames[0].astype(int) - frames[-1]).mean() > 0.1
    if name == "pong":
        field = frames[FRAMES // 2, 300, GAME_SIZE[0] // 4].astype(int)
        assert np.abs(field - (144, 72, 17)).max() < 25, "in the game's own colours"


def test_an_environment_without_a_picture_is_shown_by_its_numbers(folders: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "bars.mp4"
    _record(folders["cartpole"], "--out", out, "--env.max-episode-agent-steps", "6")
    frames = _frames(out)[:, :, : GAME_SIZE[0]].astype(int)
    assert len(frames) == 20 * 6, "three agent steps a second"
    assert np.abs(frames[0] - frames[19]).mean() < 1
    assert np.abs(frames[0] - frames[20]).mean() > 1
    bars = draw_observation(np.array([0.5, -1.0, 0.0, 1e30])).astype(int)
    colored = (np.abs(bars - PAPER).max(axis=2) > 0).sum(axis=0).reshape(4, -1).max(axis=1)
    assert np.abs(colored - 208 * np.array([1 / 3, 1 / 2, 0, 1])).max() <= 2, "x has the length x / (1 + |x|)"


def test_a_picture_of_another_environment_keeps_its_shape() -> None:
    tall = np.full((40, 10, 3), 200, np.uint8)
    shown = scale_game(tall, (100, 80))
    assert (shown == 200).all(axis=2).sum() == 20 * 80, "as high as there is room, a quarter as wide"
    assert (shown[:, :40] == PAPER).all()
    planes = np.zeros((2, 3, 5), np.float32)
    planes[1, 2, 4] = 1
    assert draw_observation(planes).max(axis=2).tolist() == [[0, 0, 0], [0, 0, 255]]
    colors = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)
    assert draw_observation(colors) is colors


def test_the_frame_shown_is_the_one_that_the_policy_saw(folders: dict[str, Path]) -> None:
    config = load_run(str(folders["gray"]))
    env = record_module._parse([str(folders["gray"])])[0].env
    experiment = build(config, Player(env, keeps_tape=True))
    params, *_ = restore_params(folders["gray"], experiment, "latest")
    played = play(experiment, params, seed=0)
    moves = Moves(0, played.actions, played.rewards)
    display = make_env(frame_by_frame(env), COLORS, 1)
    shown = list(frames_of_agent_steps(display, moves, 4))
    assert len(shown) == len(played.actions) == AGENT_STEPS
    for frames, encoded in zip(shown, played.encoded, strict=True):
        raw = np.moveaxis(frames[0], -1, 0)[None]
        assert np.array_equal(experiment.observation.encode(raw), encoded)
    wrong = moves._replace(rewards=played.rewards + 1)
    with pytest.raises(UserError, match="agent step 0 of the game cannot be repeated"):
        list(frames_of_agent_steps(display, wrong, 4))
    display.close()
    experiment.rollout.close()


def test_each_checkpoint_has_a_video_of_its_own(folders: dict[str, Path], capsys: pytest.CaptureFixture) -> None:
    _record(folders["pong"], "--checkpoint", "2", "latest", "--episodes", "2")
    videos = folders["pong"] / "videos"
    assert {path.name for path in videos.iterdir()} == {"2.mp4", "2.json", "4.mp4", "4.json"}
    assert all(len(_frames(path)) == 2 * FRAMES for path in videos.glob("*.mp4"))
    traces = [json.loads((videos / name).read_text()) for name in ("2.json", "4.json")]
    assert [(trace["checkpoint"], len(trace["games"])) for trace in traces] == [(2, 2), (4, 2)]
    said = capsys.readouterr().out.splitlines()
    assert [line.count("return") for line in said] == [1, 1, 0, 1, 1, 0]
    assert said[2] == f"jaxpg: 2.7 s of video in {videos / '2.mp4'}"


@pytest.mark.parametrize(("name", "greedy"), [("gray", True), ("ram", False)])
def test_the_trace_beside_a_video_has_the_game_that_was_played(
    folders: dict[str, Path], name: str, greedy: bool, tmp_path: Path
) -> None:
    folder, out = folders[name], tmp_path / "game.mp4"
    longer = ["--env.max-episode-agent-steps", "100"]  # so that something is eaten
    _record(folder, "--out", out, "--seed", "3", "--actions", "greedy" if greedy else "trained", *longer)
    trace = json.loads((tmp_path / "game.json").read_text())
    config, env = load_run(str(folder)), record_module._parse([str(folder), *longer])[0].env
    experiment = build(config, Player(env, "greedy" if greedy else "sampled", keeps_tape=True))
    params, *_ = restore_params(folder, experiment, "latest")
    played = play(experiment, params, seed=3)
    experiment.rollout.close()
    assert [trace["checkpoint"], trace["seed"], trace["actions"]] == [4, 3, "greedy" if greedy else "sampled"]
    assert trace["env"] == json.loads(json.dumps(dataclasses.asdict(env)))
    assert trace["action_names"] == action_names(env)
    (game,) = trace["games"]
    assert game["return"] == sum(game["rewards"]) == played.rewards.sum()
    assert game["rewards"] == played.rewards.tolist()
    assert any(game["rewards"])
    assert game["actions"] == played.actions.tolist()
    np.testing.assert_allclose(game["probabilities"], played.probabilities, atol=5.1e-5)
    np.testing.assert_allclose(game["values"], played.values, atol=1e-5)
    if greedy:
        assert game["actions"] == np.argmax(game["probabilities"], axis=1).tolist()
    following, cut = 0.0, config.reinforce.cut_at_reward
    for reward, credited in zip(reversed(game["rewards"]), reversed(game["returns_to_go"]), strict=True):
        following = reward + (0.0 if cut and reward else config.reinforce.discount * following)
        assert credited == pytest.approx(following, abs=1e-4)


@pytest.mark.long
def test_a_grid_shows_all_checkpoints_until_the_last_game_has_ended(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """Two tiles, the first of which has its second game cut short."""
    games = []

    def play_shorter(*args, **kwargs):
        games.append(play(*args, **kwargs))
        return type(games[-1])(*(column[: 8 if len(games) == 2 else None] for column in games[-1]))

    monkeypatch.setattr(filming, "play", play_shorter)
    out = tmp_path / "grid.mp4"
    _record(folders["pong"], "--checkpoint", "2", "latest", "--grid", "--episodes", "2", "--out", out)
    assert list(tmp_path.iterdir()) == [out]
    width, height = GAP + 2 * (480 + GAP), 2 * GAP + CAPTION_HEIGHT + 360
    frames = _frames(out, (width, height)).astype(int)
    assert len(frames) == 2 * FRAMES
    left, right = (frames[:, GAP + CAPTION_HEIGHT : -GAP, x : x + 480] for x in (GAP, GAP + 480 + GAP))
    assert np.abs(left[FRAMES // 2, 260, 120] - (144, 72, 17)).max() < 25, "in the game's own colours"
    ended = FRAMES + 4 * 8
    assert np.abs(left[ended - 1] - right[ended - 1]).mean() < 20
    assert np.abs(left[ended] - left[ended - 1] * DIMMED).mean() < 3, "its last frame, dimmed"
    assert np.abs(left[-1] - left[ended]).mean() < 3, "until the end"
    assert left[-1].mean() < 0.5 * right[-1].mean()
    assert np.abs(frames[:, : GAP // 2] - PAPER).max() < 8
    said = capsys.readouterr().out.splitlines()
    assert [line.count("return") for line in said] == [1] * 4 + [0]
    assert said[-1] == f"jaxpg: 2.7 s of video in {out}"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("RUN", "--out", "summary.mp4"), "summary.json: is no trace of a video and would be replaced by one"),
        (("RUN", "--out", "game.avi"), "out: the name of a video ends with .mp4, unlike 'game.avi'"),
        (("RUN", "--out", "config.yaml/game.mp4"), "config.yaml/game.mp4: cannot be written"),
        (("RUN", "--out", "folder.mp4"), "folder.mp4: cannot be written: a folder has this name"),
        (("RUN", "--checkpoint", "3"), "no checkpoint of iteration 3; saved iterations are 2, 4"),
        (("RUN", "--episodes", "0"), "episodes: at least 1, not 0"),
        (("RUN", "--seed", "-1"), "seed: from 0 to"),
        (("nowhere",), "nowhere: no run: there is no such folder"),
    ],
)
def test_a_mistake_is_one_sentence_and_leaves_nothing(
    folders: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
    argv: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.chdir(folders["ram"])
    (folders["ram"] / "folder.mp4").mkdir(exist_ok=True)
    monkeypatch.setattr(filming, "play", None)  # all is noticed before a game is played
    before = set(folders["ram"].rglob("*"))
    _record(*(str(folders["ram"]) if part == "RUN" else part for part in argv), code=2)
    said = capsys.readouterr().err
    assert message in said
    assert said.startswith("jaxpg: ")
    assert said.count("\n") == 1
    assert set(folders["ram"].rglob("*")) == before
