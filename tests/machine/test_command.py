"""From a command's arguments to its exit code."""

import pytest

from jaxpg.machine.command import run_command


@pytest.mark.parametrize(
    "said",
    [
        "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 5520758552 bytes.",
        "INTERNAL: CUDA_ERROR_OUT_OF_MEMORY: out of memory",
        "FAILED_PRECONDITION: DNN library initialization failed. Look at the errors above for more details.",
    ],
)
def test_memory_that_is_used_up_is_one_sentence(capsys: pytest.CaptureFixture[str], said: str) -> None:
    def fail(words) -> int:
        raise RuntimeError(f"{said}\nand a page of buffers")

    with pytest.raises(SystemExit) as ended:
        run_command(fail, [])
    assert ended.value.code == 1
    (sentence,) = capsys.readouterr().err.splitlines()
    assert sentence.startswith(f"jaxpg: memory is used up: {said}; use fewer lanes, ")
    assert sentence.endswith(" with XLA_CLIENT_MEM_FRACTION")


def test_other_errors_of_a_program_keep_their_traceback() -> None:
    def fail(words) -> int:
        raise RuntimeError("INVALID_ARGUMENT: shapes")

    with pytest.raises(RuntimeError, match="INVALID_ARGUMENT"):
        run_command(fail, [])
