"""The notebook in docs/ runs from top to bottom, and what it shows is so."""

import base64
import re
from pathlib import Path

import nbclient
import nbformat
import pytest

NOTEBOOK = Path(__file__).parents[2] / "docs" / "first_steps.ipynb"


@pytest.mark.long
def test_the_notebook_runs_and_learns(tmp_path: Path) -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    said = [output.text for output in outputs if output.output_type == "stream" and output.name == "stdout"]
    assert not [output for output in outputs if output.get("name") == "stderr"]
    shown = [output.data for output in outputs if output.output_type in ("display_data", "execute_result")]
    assert sum("image/png" in data for data in shown) == 2, "a curve of CartPole, and the games of Pong"
    ended, score, decision, resumed, pong = said
    assert ended.startswith("budget of agent steps used")
    assert float(score.split()[0]) > 30, "a random policy has some 22"
    assert decision.splitlines()[0] == "[0 1]", "it pushes the cart under the pole"
    assert resumed.startswith("128000 ")
    assert re.fullmatch(r"budget of agent steps used \d+ games\n", pong)
    (video,) = [data["text/html"] for data in shown if "text/html" in data]
    assert "<video" in video
    (payload,) = re.findall(r"data:video/mp4;base64,([\w+/=]+)", video)
    assert base64.b64decode(payload)[4:8] == b"ftyp", "an MP4 file"
