"""Ways to damage a checkpoint. Each takes its folder and says whether it must be noticed."""

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

from jaxpg.machine.durable_files import MANIFEST


def _a_file(rng: random.Random, folder: Path, *, with_content: bool = False) -> Path:
    files = [path for path in folder.rglob("*") if path.is_file() and (path.stat().st_size or not with_content)]
    return rng.choice(sorted(files))


def truncate(rng: random.Random, folder: Path) -> bool:
    path = _a_file(rng, folder, with_content=True)
    os.truncate(path, rng.randrange(path.stat().st_size))
    return True


def flip_a_bit(rng: random.Random, folder: Path) -> bool:
    path = _a_file(rng, folder, with_content=True)
    content = bytearray(path.read_bytes())
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)
    return True


def lengthen(rng: random.Random, folder: Path) -> bool:
    with _a_file(rng, folder).open("ab") as file:
        file.write(rng.randbytes(5))
    return True


def delete(rng: random.Random, folder: Path) -> bool:
    _a_file(rng, folder).unlink()
    return True


def delete_the_manifest(rng: random.Random, folder: Path) -> bool:
    (folder / MANIFEST).unlink()
    return True


def add_a_file(rng: random.Random, folder: Path) -> bool:
    (_a_file(rng, folder).parent / "extra").write_bytes(b"x")
    return True


def add_a_dotfile(rng: random.Random, folder: Path) -> bool:
    (_a_file(rng, folder).parent / ".DS_Store").write_bytes(b"x")
    return False


def link_elsewhere(rng: random.Random, folder: Path) -> bool:
    """What the link shows may be right or not, but is not the checkpoint's own."""
    path = _a_file(rng, rng.choice(sorted(part for part in folder.iterdir() if part.is_dir())))
    elsewhere = folder.parent.parent / f"elsewhere-{path.name}"
    shutil.move(path, elsewhere)
    path.symlink_to(rng.choice([elsewhere, "/etc/hostname", "/nowhere", folder.parent]))
    return True


def into_a_folder(rng: random.Random, folder: Path) -> bool:
    path = _a_file(rng, folder)
    path.unlink()
    path.mkdir()
    return True


def empty_manifest(rng: random.Random, folder: Path) -> bool:
    (folder / MANIFEST).write_text(rng.choice(["", "{}", '{"files": {}}', "null", "[]"]))
    return True


def garbage_manifest(rng: random.Random, folder: Path) -> bool:
    name = _a_file(rng, folder / "state").relative_to(folder).as_posix()
    wrong = [[], [1], [1, "x"], ["x", 1], 7, None, {"a": 1}]
    texts = [json.dumps({"files": {name: value}}).encode() for value in wrong]
    texts += [rng.randbytes(100), b"[" * 100_000, b'{"files": [1]}', b'{"files": {"../x": [1, "x"]}}']
    (folder / MANIFEST).write_bytes(rng.choice(texts))
    return True


def swap(rng: random.Random, folder: Path) -> bool:
    """Two files take each other's name."""
    one, other = _a_file(rng, folder), _a_file(rng, folder)
    contents = one.read_bytes(), other.read_bytes()
    one.write_bytes(contents[1])
    other.write_bytes(contents[0])
    return contents[0] != contents[1]


def of_another_iteration(rng: random.Random, folder: Path) -> bool:
    """A file of the checkpoint before, where there is one of its name."""
    path = _a_file(rng, folder)
    others = [other / path.relative_to(folder) for other in folder.parent.iterdir() if other != folder]
    others = [other for other in others if other.is_file()]
    before = path.read_bytes()
    if others:
        shutil.copyfile(rng.choice(others), path)
    return before != path.read_bytes()


VANDALS: dict[str, Callable[[random.Random, Path], bool]] = {
    vandal.__name__: vandal
    for vandal in (
        *(truncate, flip_a_bit, lengthen, delete, delete_the_manifest, add_a_file, add_a_dotfile, link_elsewhere),
        *(into_a_folder, empty_manifest, garbage_manifest, swap, of_another_iteration),
    )
}
