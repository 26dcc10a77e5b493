"""What all tests share: one cache of compiled code, which is not the user's; one finished run; what saves time."""

import gc
import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import hypothesis  # noqa: F401 - before gc.freeze below, behind which its plugins see no references and warn
import pytest

collect_ignore_glob = ["*/conftest.py"]
"""They have no doctests, and two files of one name cannot both be collected as modules."""

LONGEST_FIRST = [
    *("docs/test_documents.py", "viewing/test_page.py", "parallel/test_processes.py", "run/test_tracked_runs.py"),
    *("faults/test_faults.py", "benchmarks/test_accelerator.py", "suite/test_suite.py", "suite/test_tuning.py"),
    *("share/test_exported_policies.py", "commands/test_envpool_runs.py"),
    *("kernel/test_jax_iteration.py", "commands/test_notebook.py"),
    *("learners/test_reinforce.py", "envs/test_every_game.py", "commands/test_recipes.py", "commands/test_record.py"),
    *("learners/test_evolution.py", "kernel/test_rollout.py", "run/test_interruptions.py", "run/test_recorder.py"),
    *("run/test_population_runs.py", "policies/test_networks.py", "envs/test_backends.py"),
    *("commands/test_train.py", "policies/test_convolution.py"),
]
"""Files that take most; each is one worker's (``--dist=loadfile``), so that what it shares is made once."""

WITH_THE_LONG_TESTS = {
    "commands/test_evaluate.py": ["test_a_run_of_many_lane_groups_and_pools"],
    "commands/test_own_environment.py": ["test_evaluate_record_and_report_know_it"],
    "commands/test_own_jax_environment.py": [
        "test_other_settings_begin_new_games",
        "test_evaluate_record_and_report_know_it",
        "test_a_run_that_is_interrupted_is_the_same_to_the_bit",
        "test_a_checkpoint_of_another_environment",
    ],
    "commands/test_own_policy.py": [
        *("test_nothing_is_printed_from_python", "test_from_python"),
        "test_evaluate_record_report_and_resume_know_it",
    ],
    "commands/test_python.py": ["test_a_value_is_a_return_to_go"],
    "commands/test_recipes.py": [
        f"test_every_recipe_takes_a_step[{name}]"
        for name in (
            *("mspacman_random_search", "notebooks/n2_pong_conv"),
            *("minatar", "small_picture", "vector", "cartpole"),
        )
    ]
    + [f"test_every_recipe_takes_a_step[notebooks/n2_pong_mlp{ending}]" for ending in ("", "_clipped")]
    + [f"test_every_recipe_takes_a_step[notebooks/n1_{name}]" for name in ("random_search", "policy_gradient")],
    "commands/test_train.py": [
        *("test_whatever_changes_on_resume", "test_a_run_on_pong"),
        *("test_weights_that_are_no_numbers", "test_a_target_that_is_not_reached"),
    ],
    "envs/test_backends.py": [
        f"test_{name}[ale-needs2]"
        for name in (
            *("the_last_observation_of_a_truncated_game_is_its_last", "no_ops_delay_the_games"),
            *("a_lane_is_a_function_of_its_own_seed_and_actions", "life_loss_game_over_and_autoreset_are_told_apart"),
            "a_game_that_ends_at_the_time_limit_is_over_and_not_cut",
        )
    ],
    "envs/test_envpool_registry.py": [f"test_programs_that_use_envpool_see_all_of_it[{use}" for use in ("all", "one")],
    "envs/test_guarded.py": ["test_a_run_is_saved_when_ones_own_environment_fails"],
    "envs/test_jax_lanes.py": ["test_gymnax_s_own_limit_truncates"],
    "faults/test_fuzz_recipes.py": ["test_a_process_refuses_the_nastiest", "test_the_long_form_counts_every_recipe"],
    "kernel/test_compiled_rollout.py": [
        "test_which_recipes_play_in_programs",
        *(f"test_what_is_played_is_equal_to_the_bit[{case}]" for case in ("limit", "greedy", "lives", "number")),
        "test_emulation_and_acting_are_told_apart",
        "test_games_go_on_after_a_replay",
    ],
    "machine/test_numbers.py": ["test_acting_and_its_gradient_are_right"],
    "run/test_profile.py": ["test_a_profiled_run_is_the_same_run"],
    "commands/test_record.py": [
        "test_an_environment_without_a_picture",
        "test_each_checkpoint_has_a_video_of_its_own",
        *(f"test_the_trace_beside_a_video_has_the_game_that_was_played[{case}]" for case in ("ram-False", "gray-True")),
        "test_a_game_is_shown_frame_by_frame_at_true_speed[gray]",
    ],
    "kernel/test_jax_iteration.py": ["test_members_in_one_program_equal_single_runs", "test_one_program_is_playing"],
    "kernel/test_rollout.py": [
        *("test_a_member_alone_plays", "test_one_function_acts_for_every_split"),
        *(f"test_replayed_games_go_on_as_if_they_had_not_been_interrupted[env{n}]" for n in ("1-2", "2-1")),
    ],
    "learners/test_evolution.py": [
        *(f"test_openai_es_makes_evosaxs_step[{pairs}]" for pairs in (1, 40)),
        "test_ars_makes_evosaxs_step[20]",
        *(f"test_probes_are_solved[centred_ranks-{probe}]" for probe in ("Bandit", "Match")),
    ],
    "learners/test_random_search.py": ["test_weights_follow_the_prior[normal"],
    "learners/test_registry.py": ["test_rounds_come_to_rest_in_pools_and_play_the_same_games"],
    "learners/test_reinforce.py": [
        "test_values_of_games_of_one_step_are_their_rewards",
        "test_the_value_before_a_later_reward_is_discounted",
        *(f"test_every_variant_solves_every_probe_of_control[value-{probe}]" for probe in ("Bandit", "Match")),
        *(f"test_every_variant_solves_every_probe_of_control[none-{probe}]" for probe in ("Bandit", "Match")),
        "test_every_variant_solves_every_probe_of_control[standardised inputs-Recall]",
        "test_every_variant_solves_every_probe_of_control[clipped epochs-Recall]",
    ],
    "policies/test_convolution.py": [
        f"test_bfloat16_is_xlas_convolution_of_rounded_operands[shape{n}" for n in (1, 2, 4, 5)
    ],
    "policies/test_networks.py": [
        f"test_{name}[{case}"
        for case in ("nature", "dqn2013", "small_conv", "conv3x3", "mlp-shape8", "linear-shape7")
        for name in (
            "several_observations_are_judged_one_by_one",
            "every_policy_starts_near_uniform_and_has_a_value_only_when_asked",
        )
    ],
    "run/test_members.py": [
        *("test_the_report_has_a_curve", "test_commands_take_the_best_member"),
        "test_a_population_that_is_interrupted",
    ],
    "run/test_interruptions.py": [
        *("test_a_segment_that_is_shorter_than_games", "test_a_run_of_several_segments_is_resumed_to_the_bit[4"),
        "test_a_run_that_is_ended_and_resumed_is_the_uninterrupted_run[12]",
        "test_the_window_of_returns_survives_a_resume",
        "test_without_replay_a_resumed_run_begins_new_games",
        "test_a_run_without_a_checkpoint_begins",
        *(f"test_a_signal_ends_the_run_after_the_iteration_and_resume_finishes_it[{n}" for n in ("1-", "2-")),
    ],
    "run/test_population_runs.py": [
        "test_the_same_seed_gives_the_same_run",
        "test_the_last_line_tells",
        "test_saves_by_the_clock_do_not_change_the_games",
    ],
    "run/test_recorder.py": [
        "test_a_resumed_run_goes_on_recording",
        "test_a_recorder_that_fails_is_a_warning",
        "test_no_more_than_one_recorder_is_there_at_a_time",
        "test_training_outlives_every_failure_to_record",
    ],
    "run/test_watchdog.py": ["test_only_the_time_that_the_process_runs_counts"],
}
"""Beginnings of the names of tests that take seconds, and whose like is tried at once by another case or test. They are
marked as long, so that the README's command stays below six minutes on two cores."""

if "PYTEST_XDIST_WORKER" not in os.environ:  # workers and subprocesses inherit what is set here
    _CACHE = tempfile.TemporaryDirectory(prefix="jaxpg-tests-")
    os.environ["XDG_CACHE_HOME"] = _CACHE.name  # where the commands keep compiled code
    os.environ["XDG_STATE_HOME"] = _CACHE.name  # where trackers keep what says that a run is this user's
    # Tests compile the same small programs again and again: what one process compiled, the others need not, however
    # small it is. The runs of tests/faults keep theirs as users' do.
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", f"{_CACHE.name}/tests")  # .ci/run has one for all its stages
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    from jaxpg.machine.xla import choose_fusions  # imports JAX, which reads what was set above

    choose_fusions()  # as the commands do
    # As in a terminal: ``nohup`` and a shell's ``&`` let signals be ignored, which every process would inherit.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)  # before pytest chooses by marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begins with what takes longest, so that no worker is left alone with it at the end."""
    ranks = {Path(__file__).parent / name: rank for rank, name in enumerate(LONGEST_FIRST)}
    assert all(path.is_file() for path in ranks), "LONGEST_FIRST names a file that has moved"
    waiting = {Path(__file__).parent / name: tuple(tests) for name, tests in WITH_THE_LONG_TESTS.items()}
    assert all(path.is_file() for path in waiting), "WITH_THE_LONG_TESTS names a file that has moved"
    for item in items:
        if item.name.startswith(waiting.get(item.path, ())):
            item.add_marker("long")
    items.sort(key=lambda item: ranks.get(item.path, len(ranks)))


def pytest_collection_finish() -> None:
    """What is imported by now stays: the collector need not walk through it again and again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 50, 100)


@pytest.fixture(scope="session", autouse=True)
def _memory_goes_back() -> Iterator[None]:
    """Commands that run within a test process do not tell it to keep all memory that it ever had."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jaxpg.machine.prepared.keep_freed_memory", lambda: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def _what_is_said_does_not_depend_on_the_machine() -> Iterator[None]:
    """Commands that run within a test process never say that something takes long."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jaxpg.machine.waiting.SECONDS_UNTIL_SAID", 3600.0)
        yield


@pytest.fixture(autouse=True)
def _words_are_written() -> Iterator[None]:
    """What is said is written, as in a command, also where a test calls what lies beneath it."""
    from jaxpg.machine.console import speaking

    with speaking():
        yield


@pytest.fixture(autouse=True)
def _products_are_as_before() -> Iterator[None]:
    """Where a test pretends to have an accelerator, JAX computes afterwards as before."""
    import jax

    yield
    if jax.config.values["jax_default_matmul_precision"]:
        jax.config.update("jax_default_matmul_precision", None)


@pytest.fixture(scope="module")
def quick_compilation() -> Iterator[None]:
    """LLVM optimises little: for networks that are compiled at length and run once, where bits do not matter.

    Results differ in their last bits: what is compared to the bit or with what was made without it, or is shared with
    other files, must not be made under it.
    """
    import jax

    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
    jax.clear_caches()


@pytest.fixture(scope="session")
def uninterrupted(tmp_path_factory) -> Path:
    """Twenty iterations, saved every five: what every interrupted run is compared with."""
    import jax  # here, because it must find the cache folder above

    from tests.runs import cartpole

    assert not jax.config.values["jax_disable_most_optimizations"], "shared: not under quick_compilation"
    return cartpole(tmp_path_factory.mktemp("runs") / "whole", "--checkpoint.every-iterations", "5", iterations=20)
