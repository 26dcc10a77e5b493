"""``report --serve``: one page over HTTP, made anew when a run has written something, and nothing else."""

import http.client
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from jaxpg.core.errors import UserError
from jaxpg.machine.signals import Interrupted
from jaxpg.report import main as report_main
from jaxpg.viewing import serving
from jaxpg.viewing.serving import LOOPBACK, KeptPage
from tests.report_runs import made_run

PAGE = "<meta content=\"default-src 'none'; script-src 'sha256-x'\"><body><script>listen()</script>\n</body>"


@contextmanager
def served(page: KeptPage, host: str = LOOPBACK) -> Iterator[int]:
    """The port of a server in this process."""
    with serving._Server(page, host, 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def ask(port: int, path: str = "/", method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=10)
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    found = answer.status, dict(answer.getheaders()), answer.read()
    connection.close()
    return found


def test_the_page_is_made_again_only_when_a_run_has_written_something(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "PAUSE", 0.0)  # on a busy machine making this page takes long, too
    made = []
    folder = made_run(tmp_path / "mine", returns=[1.0])

    def make() -> str:
        made.append(1)
        return PAGE.replace("listen", f"listen{len(made)}")

    with served(KeptPage(make, [folder])) as port:
        status, headers, first = ask(port)
        assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
        assert ask(port)[2] == first
        assert ask(port, **{"If-None-Match": headers["ETag"]})[::2] == (304, b"")
        assert len(made) == 1
        for i, change in enumerate(("metrics.jsonl", "videos/9.mp4", "checkpoints/9"), start=2):
            (folder / change).parent.mkdir(exist_ok=True)
            with (folder / change).open("a") as file:
                file.write("{}\n")
            status, headers, content = ask(port, **{"If-None-Match": headers["ETag"]})
            assert (status, f"listen{i}".encode() in content) == (200, True), change
        assert ask(port, method="HEAD")[::2] == (200, b"")


def test_drawing_leaves_the_cores_to_the_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    page = KeptPage(lambda: made.append(1) or PAGE, [tmp_path])
    monkeypatch.setattr(serving, "PAUSE", 1e12)
    for name in ("a", "b", "c"):
        (tmp_path / name).touch()
        assert b"listen" in page.content()
    assert len(made) == 1


def test_the_policy_of_a_page_that_is_kept_current_allows_its_own_server_and_nobody_else() -> None:
    page = serving._kept_current(PAGE)
    assert "default-src 'none'; connect-src 'self'; script-src 'sha256-" in page
    assert page.count("<script>") == 2
    assert page.index("setTimeout(refresh") < page.index("listen()"), "it must see the sections as they were sent"


def test_nothing_but_the_page_is_served_and_only_under_its_own_name(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    with served(KeptPage(lambda: PAGE, [tmp_path])) as port:
        for path in ("/secret", "/../secret", "/%2e%2e/secret", "//secret", "/?x", "/config.yaml"):
            status, _, content = ask(port, path)
            assert (status, b"secret" in content) == (404, False), path
        assert ask(port, method="POST")[0] == 501
        for name in ("127.0.0.1", f"127.0.0.1:{port}", f"localhost:{port}", "[::1]:80", os.uname().nodename):
            assert ask(port, Host=name)[0] == 200, name
        for name in ("rebound.example", f"rebound.example:{port}", "", "localhost.example"):
            assert ask(port, Host=name)[0] == 421, name


def test_a_page_that_cannot_be_made_is_a_sentence_until_it_can(tmp_path: Path) -> None:
    def make() -> str:
        if not (tmp_path / "config.yaml").exists():
            raise UserError("gone: no run")
        return PAGE

    with served(KeptPage(make, [tmp_path])) as port:
        status, headers, content = ask(port)
        assert (status, headers["Content-Type"], content) == (503, "text/plain; charset=utf-8", b"gone: no run\n")
        (tmp_path / "config.yaml").touch()
        assert ask(port)[0] == 200


def test_a_signal_ends_the_server_and_frees_the_port(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    class _EndsAtOnce(threading.Thread):
        def join(self, timeout: float | None = None) -> None:
            raise Interrupted(2)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(serving.threading, "Thread", _EndsAtOnce)
        with pytest.raises(Interrupted):
            serving.serve(KeptPage(lambda: PAGE, [tmp_path]), LOOPBACK, 0)
    said = capsys.readouterr().out
    port = int(said.split("http://127.0.0.1:")[1].split("/")[0])
    with pytest.raises(ConnectionRefusedError):
        ask(port)


@pytest.mark.parametrize(
    ("place", "message"),
    [
        (("--port", "70000"), "no address: host '127.0.0.1', port 70000"),
        (("--host", "no.such.host.invalid"), "nothing can listen on no.such.host.invalid, port 0"),
        (("--host", "192.0.2.1"), "nothing can listen on 192.0.2.1, port 0: "),
    ],
)
def test_a_place_where_nothing_can_listen_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture, place: tuple[str, str], message: str
) -> None:
    folder = made_run(tmp_path / "mine", returns=[])
    for name in ("metrics.jsonl", "episodes.csv"):
        (folder / name).unlink()  # nothing to draw
    with pytest.raises(SystemExit) as end:
        report_main([str(folder), "--serve", *place])
    assert end.value.code == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
