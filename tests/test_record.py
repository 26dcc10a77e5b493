"""``python -m jaxpg.record``: real videos of real games, taken apart again."""

import subprocess
from pathlib import Path

import imageio_ffmpeg
import jax
import numpy as np
import pytest

from jaxpg import record as record_module
from jaxpg.envs import make_env
from jaxpg.experiment import Player, build, lane_seeds
from jaxpg.panel import GAME_SIZE, SIZE, Moment, Panel, picture_of
from jaxpg.record import COLORS, SEGMENT, main
from jaxpg.saved import load_run, restore_params
from tests.runs import run

SMALL = [
    *("--env.num-lanes", "2", "--env.max-episode-agent-steps", "40", "--env.sticky-action-probability", "0.25"),
    *("--reinforce.rollout-agent-steps", "8", "--policy.hidden", "8", "--checkpoint.every-iterations", "2"),
    *("--run.budget-agent-steps", "64"),
]
ALE = ["--env.backend", "ale", "--env.no-maxpool", "--env.noop-max", "0", "--policy.name", "linear"]
GAMES = {
    "pong": ["--env.game", "Pong"],
    "gray": ["--env.game", "MsPacman", *ALE, "--observation.name", "flat_gray"],
    "ram": ["--env.game", "MsPacman", *ALE, "--observation.name", "ram"],
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    """A short run of each kind."""
    runs = {name: tmp_path_factory.mktemp("recorded") / name for name in GAMES}
    for name, folder in runs.items():
        run(*GAMES[name], *SMALL, "--run.dir", str(folder))
    return runs


def _record(*argv: str | Path, code: int = 0) -> None:
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in argv])
    assert end.value.code == code


def _frames(path: Path) -> np.ndarray:
    """All frames, decoded: ``uint8[K, 420, 960, 3]``."""
    ffmpeg = imageio_ffmpeg.get_ffmpeg_exe()
    about = subprocess.run([ffmpeg, "-i", path], capture_output=True, text=True, check=False).stderr
    assert f"Video: h264 (High) (avc1 / 0x31637661), yuv420p(progressive), {SIZE[0]}x{SIZE[1]}" in about
    assert "60 fps" in about
    raw = subprocess.run(
        [ffmpeg, "-v", "error", "-i", path, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"], capture_output=True, check=True
    )
    assert not raw.stderr
    return np.frombuffer(raw.stdout, np.uint8).reshape(-1, SIZE[1], SIZE[0], 3)


@pytest.mark.parametrize("name", GAMES)
def test_a_game_is_shown_frame_by_frame_at_true_speed(folders: dict[str, Path], name: str, tmp_path: Path) -> None:
    out = tmp_path / "game.mp4"
    _record(folders[name], "--out", out)
    assert list(tmp_path.iterdir()) == [out], "nothing unfinished is left"
    frames = _frames(out)
    assert len(frames) == 40 * 4
    assert len({frame.tobytes() for frame in frames}) > 40, "more than one picture an agent step"
    assert np.abs(frames[0].astype(int) - frames[-1]).mean() > 0.1
    if name == "pong":
        field = frames[80, 300, GAME_SIZE[0] // 4].astype(int)
        assert np.abs(field - (144, 72, 17)).max() < 25, "in the game's own colours"


def test_the_frame_shown_is_the_one_that_the_policy_saw(folders: dict[str, Path]) -> None:
    config = load_run(str(folders["gray"]))
    env = record_module._parse([str(folders["gray"])])[0].env
    experiment = build(config, Player(env, keeps_tape=True))
    params, _ = restore_params(folders["gray"], experiment, "latest")
    seeds = lane_seeds(0, SEGMENT, 1)
    played = record_module._play(experiment, params, seeds, jax.random.key(0))
    display = make_env(record_module._frame_by_frame(env), COLORS, 1)
    shown = list(record_module._frames_of_agent_steps(display, seeds, played, 4))
    assert len(shown) == len(played.actions) == 40
    for frames, encoded in zip(shown, played.encoded, strict=True):
        raw = np.moveaxis(frames[0], -1, 0)[None]
        assert np.array_equal(experiment.observation.encode(raw), encoded)
    wrong = played._replace(rewards=played.rewards + 1)
    with pytest.raises(record_module.UserError, match="agent step 0 of the game cannot be repeated"):
        list(record_module._frames_of_agent_steps(display, seeds, wrong, 4))
    display.close()
    experiment.rollout.close()


def test_each_checkpoint_has_a_video_of_its_own(folders: dict[str, Path], capsys: pytest.CaptureFixture) -> None:
    _record(folders["pong"], "--checkpoint", "2", "latest", "--episodes", "2")
    videos = folders["pong"] / "videos"
    assert {path.name for path in videos.iterdir()} == {"2.mp4", "4.mp4"}
    assert all(len(_frames(path)) == 2 * 160 for path in videos.iterdir())
    said = capsys.readouterr().out.splitlines()
    assert [line.count("return") for line in said] == [1, 1, 0, 1, 1, 0]
    assert said[2] == f"jaxpg: 5.3 s of video in {videos / '2.mp4'}"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("RUN", "--out", "game.avi"), "out: the name of a video ends with .mp4, unlike 'game.avi'"),
        (("RUN", "--out", "config.yaml/game.mp4"), "config.yaml/game.mp4: cannot be written"),
        (("RUN", "--checkpoint", "3"), "no checkpoint of iteration 3; there are 2, 4"),
        (("RUN", "--episodes", "0"), "episodes: at least 1, not 0"),
        (("RUN", "--seed", "-1"), "seed: from 0 to"),
        (("CARTPOLE",), "env.game: only Atari games have a picture and named actions, CartPole-v1 has not"),
        (("nowhere",), "nowhere: no run: it has no config.yaml"),
    ],
)
def test_a_mistake_is_one_sentence_and_leaves_nothing(
    folders: dict[str, Path],
    uninterrupted: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
    argv: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.chdir(folders["ram"])
    before = set(folders["ram"].rglob("*"))
    names = {"RUN": str(folders["ram"]), "CARTPOLE": str(uninterrupted)}
    _record(*(names.get(part, part) for part in argv), code=2)
    said = capsys.readouterr().err
    assert message in said
    assert said.startswith("jaxpg: ")
    assert said.count("\n") == 1
    assert set(folders["ram"].rglob("*")) == before


def test_a_video_that_cannot_be_encoded_says_so(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    broken = tmp_path / "ffmpeg"
    broken.write_text("#!/bin/sh\necho no such codec >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(broken))
    _record(folders["ram"], "--out", tmp_path / "game.mp4", code=2)
    assert capsys.readouterr().err.endswith("game.mp4: the video cannot be encoded: no such codec\n")
    assert {path.name for path in tmp_path.iterdir()} == {"ffmpeg"}


def _moment(**changes) -> Moment:
    moment = Moment("Pong", 3.0, 65.0, np.array([0.75, 0.25]), 0, 0.5, np.zeros((5, 4)))
    return moment._replace(**changes)


def test_the_panel_shows_the_probabilities_as_lengths() -> None:
    panel = Panel(["UP", "DOWN"])
    image = panel.draw(_moment())
    assert image.shape == (420, 400, 3)
    orange, gray = ((image == color).all(axis=-1) for color in ((250, 178, 80), (86, 98, 110)))
    lengths = [rows.sum(axis=1).max() for rows in (orange, gray)]
    assert lengths[0] == pytest.approx(3 * lengths[1], abs=3), "the chosen action's bar is orange"
    assert not np.array_equal(image, panel.draw(_moment(value=None)))
    assert not np.array_equal(image, panel.draw(_moment(score=4.0)))
    many = Panel([str(i) for i in range(18)]).draw(_moment(probabilities=np.full(18, 1 / 18), action=17))
    assert many.shape == image.shape


def test_what_the_policy_sees_becomes_gray_levels() -> None:
    signed = picture_of(np.array([[-2.0, 0.0], [1.0, 2.0]]))
    assert signed.tolist() == [[0, 128], [191, 255]]
    assert picture_of(np.array([[0.0, 0.5], [1.0, 0.25]])).tolist() == [[0, 128], [255, 64]]
    stack = np.zeros((3, 3, 4))
    stack[1, 1, 3] = 1
    assert picture_of(stack)[1, 1] == 255, "the newest frame of a stack"
    assert picture_of(np.ones(128)).shape == (8, 16)
    assert picture_of(np.ones(33_600)).shape == (210, 160)
    assert picture_of(np.zeros(4)).tolist() == [[0, 0, 0, 0]]
