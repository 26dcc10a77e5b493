"""The comparison with other trainers: what is missing is named, and a notebook's returns are its own."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import peers
import pytest
from peer_contestant import _standardised_returns


def test_a_peer_that_is_not_installed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(sys, "argv", ["peers.py", "--pairs", "a2c", "sbx", "--out", str(tmp_path)])
    peers.main()
    table = capsys.readouterr().out
    assert table.count("not installed: pip install '.[peers]'") == 2
    assert "Stable-Baselines3 A2C, Nature CNN" in table
    assert "sbx PPO" in table
    assert (tmp_path / "peers.md").read_text(encoding="utf-8") == table


def test_a_notebooks_returns_begin_anew_at_each_point() -> None:
    returns = np.array([0.25, 0.5, 1.0, -0.5, -1.0, 0.0])  # halved backwards from each point
    expected = (returns - returns.mean()) / returns.std()
    rewards = np.array([0.0, 0.0, 1.0, 0.0, -1.0, 0.0])
    np.testing.assert_allclose(_standardised_returns(rewards, discount=0.5), expected, atol=1e-12)
