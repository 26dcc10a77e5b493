"""A small hub on this machine: a real HTTP server that answers the calls that pushing and pulling make."""

import base64
import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

LARGE_BYTES = 100_000
"""Files from this size on, and all that are no text, take the way for large files (LFS)."""
MAX_CARD_BYTES = 400_000

Files = dict[str, bytes]


@dataclass
class Repository:
    """One repository: the commits by their ids, and the newest one of each branch."""

    private: bool
    commits: dict[str, Files] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)

    def add(self, branch: str, files: Files, message: str = "") -> str:
        commit = hashlib.sha1(f"{len(self.commits)}".encode()).hexdigest()
        self.commits[commit], self.branches[branch] = files, commit
        self.messages.append(message)
        return commit

    @property
    def files(self) -> Files:
        """The files on main."""
        return self.commits[self.branches["main"]]


@dataclass
class Hub:
    """What the server holds, whom it lets in, and how it fails."""

    user: str = "me"
    token: str = "hf_right"
    repositories: dict[str, Repository] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    calls: list[tuple[str, str]] = field(default_factory=list)
    fails: Callable[[str, str], int | None] = lambda method, path: None
    """``(method, path) -> status of the answer``; 0 cuts the connection, None lets the call through."""
    url: str = ""

    def make(self, name: str, files: Files, *, private: bool = False) -> Repository:
        repository = Repository(private)
        repository.add("main", {".gitattributes": b"", **files})
        self.repositories[name] = repository
        return repository


class RefusalError(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, message: str = "", code: str = ""):
        super().__init__(message)
        self.status, self.message, self.code = status, message, code


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *arguments: Any) -> None:
        """Says nothing."""

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.calls.append((self.command, path))
        status = self.hub.fails(self.command, path)
        if status == 0:
            self.close_connection = True
            self.connection.close()
            return
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            if status is not None:
                raise RefusalError(status, "as the test wants it")
            content, headers = self._reply(path, body)
            self._send(200, content, headers)
        except RefusalError as refusal:
            names = {"X-Error-Message": refusal.message, "X-Error-Code": refusal.code}
            self._send(refusal.status, b'{"errors": []}', {name: x for name, x in names.items() if x})

    do_GET = do_HEAD = do_POST = do_PUT = _answer  # noqa: N815

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _reply(self, path: str, body: bytes) -> tuple[bytes, dict[str, str]]:
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if token not in ("", self.hub.token):
            raise RefusalError(401, "Invalid credentials in Authorization header")
        is_user = bool(token)
        match path.strip("/").split("/"):
            case ["lfs", oid]:
                if hashlib.sha256(body).hexdigest() != oid:
                    raise RefusalError(400, "another content")
                self.hub.blobs[oid] = body
                return b"", {}
            case ["api", "repos", "create"]:
                return self._create(json.loads(body), is_user)
            case ["api", "validate-yaml"]:
                return self._validate(json.loads(body)["content"])
            case ["api", "models", user, name, *rest]:
                repository = self._open(f"{user}/{name}", is_user)
                return self._of_repository(repository, f"{user}/{name}", rest, body, is_user)
            case [user, name, "info", "lfs", "objects", "batch"]:
                self._open(f"{user}/{name.removesuffix('.git')}", is_user)
                return self._batch(json.loads(body))
            case [user, name, "resolve", revision, *file]:
                return self._resolve(self._open(f"{user}/{name}", is_user), revision, "/".join(file))
        raise RefusalError(404, "no such call")

    def _open(self, name: str, is_user: bool) -> Repository:
        found = self.hub.repositories.get(name)
        if found is None or (found.private and not (is_user and name.startswith(f"{self.hub.user}/"))):
            raise RefusalError(404 if is_user else 401, "Repository not found", "RepoNotFound")
        return found

    def _create(self, asked: dict[str, Any], is_user: bool) -> tuple[bytes, dict[str, str]]:
        name = f"{asked['organization']}/{asked['name']}"
        if not is_user:
            raise RefusalError(401, "Invalid username or password.")
        if asked["organization"] != self.hub.user:
            raise RefusalError(403, "You don't have the rights to create a model under this namespace")
        if name in self.hub.repositories:
            raise RefusalError(409, "You already created this model repo")
        self.hub.make(name, {}, private=asked.get("visibility") == "private")
        return _json({"url": f"{self.hub.url}/{name}"})

    def _validate(self, text: str) -> tuple[bytes, dict[str, str]]:
        if len(text.encode()) > MAX_CARD_BYTES:
            raise RefusalError(413, "README.md is too large")
        try:
            metadata = YAML(typ="safe").load(text.split("---\n")[1])
            assert metadata["model-index"] if "## Scores\n\n|" in text else True
        except (YAMLError, IndexError, KeyError) as error:
            raise RefusalError(400, "no metadata") from error
        return _json({"errors": [], "warnings": []})

    def _of_repository(
        self, repository: Repository, name: str, rest: list[str], body: bytes, is_user: bool
    ) -> tuple[bytes, dict[str, str]]:
        match rest:
            case []:
                return self._info(repository, name, repository.branches["main"])
            case ["revision", revision]:
                return self._info(repository, name, _commit(repository, revision))
        if not is_user or not name.startswith(f"{self.hub.user}/"):
            raise RefusalError(403, "you may not write")
        match rest:
            case ["branch", branch]:
                if branch in repository.branches:
                    raise RefusalError(409, "Reference already exists")
                repository.branches[branch] = repository.branches["main"]
                return _json({})
            case ["preupload", branch]:
                there = repository.commits[_commit(repository, branch)]
                return _json({"files": [_mode(file, there) for file in json.loads(body)["files"]]})
            case ["commit", branch]:
                return self._take(repository, name, branch, [json.loads(line) for line in body.splitlines()])
        raise RefusalError(404, "no such call")

    def _info(self, repository: Repository, name: str, commit: str) -> tuple[bytes, dict[str, str]]:
        files = repository.commits[commit]
        siblings = [{"rfilename": file, "size": len(content), "blobId": "0"} for file, content in files.items()]
        return _json({"id": name, "sha": commit, "private": repository.private, "siblings": siblings})

    def _batch(self, asked: dict[str, Any]) -> tuple[bytes, dict[str, str]]:
        objects = []
        for one in asked["objects"]:
            upload = {"upload": {"href": f"{self.hub.url}/lfs/{one['oid']}"}}
            objects.append({**one, **({} if one["oid"] in self.hub.blobs else {"actions": upload})})
        return _json({"transfer": "basic", "objects": objects})

    def _take(
        self, repository: Repository, name: str, branch: str, lines: list[dict[str, Any]]
    ) -> tuple[bytes, dict[str, str]]:
        head = _commit(repository, branch)
        (header, *operations) = lines
        if header["value"].get("parentCommit", head) != head:
            raise RefusalError(412, "The branch has moved")
        files = dict(repository.commits[head])
        for operation in operations:
            value = operation["value"]
            match operation["key"]:
                case "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                case "lfsFile":
                    if value["oid"] not in self.hub.blobs:
                        raise RefusalError(400, "the content was never uploaded")
                    files[value["path"]] = self.hub.blobs[value["oid"]]
                case "deletedFile":
                    del files[value["path"]]
        commit = repository.add(branch, files, header["value"]["summary"])
        return _json({"commitUrl": f"{self.hub.url}/{name}/commit/{commit}", "commitOid": commit})

    def _resolve(self, repository: Repository, revision: str, file: str) -> tuple[bytes, dict[str, str]]:
        commit = _commit(repository, revision)
        content = repository.commits[commit].get(file)
        if content is None:
            raise RefusalError(404, "no such file", "EntryNotFound")
        return content, {"X-Repo-Commit": commit, "ETag": f'"{hashlib.sha256(content).hexdigest()}"'}


def _json(content: Any) -> tuple[bytes, dict[str, str]]:
    return json.dumps(content).encode(), {"Content-Type": "application/json"}


def _commit(repository: Repository, revision: str) -> str:
    commit = repository.branches.get(revision, revision)
    if commit not in repository.commits:
        raise RefusalError(404, "no such revision", "RevisionNotFound")
    return commit


def _mode(file: dict[str, Any], there: Files) -> dict[str, Any]:
    """How a file is to be uploaded, and the id of the same file in the repository."""
    is_large = file["size"] >= LARGE_BYTES or b"\0" in base64.b64decode(file["sample"])
    oid = None
    if file["path"] in there:
        content = there[file["path"]]
        blob = b"blob %d\0" % len(content) + content
        oid = hashlib.sha256(content).hexdigest() if is_large else hashlib.sha1(blob).hexdigest()
    return {"path": file["path"], "uploadMode": "lfs" if is_large else "regular", "shouldIgnore": False, "oid": oid}


@contextmanager
def hub_on_this_machine() -> Iterator[Hub]:
    """Runs the server until the block ends."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
