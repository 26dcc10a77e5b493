"""The parts of tensorboardX that write TensorBoard's event files.

tensorboardX imports PyTorch wherever it is installed, to know its tensors. jaxpg writes none, and the import would take
seconds of every start and much memory. So PyTorch counts as missing meanwhile, unless it was imported before.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def _missing(name: str) -> Iterator[None]:
    """Makes ``import name`` raise ModuleNotFoundError meanwhile, where the module has not been imported yet."""
    if name in sys.modules:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment]  # so Python's import system is told that there is none
    try:
        yield
    finally:
        del sys.modules[name]


with _missing("torch"):
    from tensorboardX.event_file_writer import EventsWriter
    from tensorboardX.proto.event_pb2 import Event, SessionLog
    from tensorboardX.proto.summary_pb2 import Summary
    from tensorboardX.summary import text

__all__ = ["Event", "EventsWriter", "SessionLog", "Summary", "text"]
