"""What several files about runs share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from jaxpg.run.checkpoints import Checkpoints


@pytest.fixture
def checkpoints(tmp_path: Path) -> Iterator[Checkpoints]:
    """An empty folder of checkpoints, of which the newest two are kept."""
    made = Checkpoints(tmp_path / "checkpoints", keep_newest=2)
    yield made
    made.close()
