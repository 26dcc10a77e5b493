"""The Hugging Face Hub: a connection, and its errors as sentences."""

import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from jaxpg.core.errors import UserError, first_line
from jaxpg.machine.console import say

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*/[A-Za-z0-9_][A-Za-z0-9_.-]*")
"""A repository with its owner. The hub has further rules, which its library checks."""


def connected() -> Any:
    """Returns the interface of the hub at ``HF_ENDPOINT``. Its library prints nothing from now on.

    Raises:
      UserError: the package huggingface-hub is not installed.
    """
    try:
        import huggingface_hub
        from huggingface_hub.utils.tqdm import disable_progress_bars
    except ImportError as error:
        raise UserError(
            "the Hugging Face Hub needs the package huggingface-hub, which is not installed; pip install 'jaxpg[hub]'"
        ) from error
    disable_progress_bars()
    huggingface_hub.logging.set_verbosity_error()
    return huggingface_hub.HfApi(endpoint=os.environ.get("HF_ENDPOINT") or None, library_name="jaxpg")


def check_name(key: str, name: str) -> None:
    """Raises UserError where ``name``, given as ``key``, is not the name of a repository with its owner."""
    if not NAME.fullmatch(name):
        raise UserError(f"{key}: {name!r} is no name of a repository; give user/name, such as me/pong")


def check_token() -> None:
    """Raises UserError where no token is known."""
    from huggingface_hub import get_token

    if not get_token():
        raise UserError("no token of the Hugging Face Hub: set HF_TOKEN, or call hf auth login")


@contextmanager
def errors_as_sentences(api: Any, name: str, consequence: str) -> Iterator[None]:
    """Turns the errors of the hub and of the network into one sentence. Warnings of the hub are said.

    Args:
      api: the interface from ``connected``.
      name: the repository.
      consequence: what follows from a failure, for the end of the sentence.

    Raises:
      UserError: the hub refused something or cannot be reached.
    """
    import httpx2

    with warnings.catch_warnings(record=True) as noted:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", UserWarning)  # others are for the developers of the hub's library
        try:
            yield
        except UserError:
            raise
        except (httpx2.HTTPError, OSError, RuntimeError, ValueError, KeyError) as error:
            raise UserError(f"{name}: {_reason(api, _root(error))}; {consequence}") from error
    for one in noted:
        say(f"jaxpg: {name}: {' '.join(str(one.message).split())}", error=True)


def _root(error: BaseException) -> BaseException:
    """The error that the hub's library has wrapped into a RuntimeError without its reason."""
    return error.__cause__ if isinstance(error, RuntimeError) and error.__cause__ else error


def _reason(api: Any, error: BaseException) -> str:
    import httpx2
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    match error:
        case OfflineModeIsEnabled():
            return "HF_HUB_OFFLINE forbids all requests"
        case GatedRepoError():
            return "its owner must first let you in"
        case RepositoryNotFoundError():
            return f"there is no such repository at {api.endpoint}, or your token does not open it"
        case RevisionNotFoundError():
            return "there is no such revision"
        case HfHubHTTPError():
            return _answer(api, error.response.status_code, error.server_message)
        case httpx2.HTTPError():
            return f"no connection to {api.endpoint}: {first_line(_as_exception(error))}"
    return first_line(_as_exception(error))


def _as_exception(error: BaseException) -> Exception:
    return error if isinstance(error, Exception) else RuntimeError(str(error))


def _answer(api: Any, status: int, message: str | None) -> str:
    """What an HTTP status of the hub means."""
    known = {
        401: "the token is wrong or has expired",
        403: "your token may not write there",
        409: "a repository of this name exists already",
        412: "somebody else has changed it meanwhile",
        413: "a file is larger than the hub accepts",
        429: "too many requests for now",
    }
    words = " ".join((message or "").split())
    said = f" ({words})" if words else ""
    return known[status] + said if status in known else f"{api.endpoint} answered with error {status}{said}"
