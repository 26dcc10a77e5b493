"""What all tests share: compiled code stays out of the user's home."""

import os
import tempfile

_CACHE = tempfile.TemporaryDirectory(prefix="jaxpg-tests-")
os.environ["XDG_CACHE_HOME"] = _CACHE.name  # where the commands keep compiled code; subprocesses inherit it
os.environ.pop("JAX_COMPILATION_CACHE_DIR", None)
