"""Every place of the product that deletes, renames, truncates or overwrites a file, and the test of its guard.

fanout removes only what it can prove is its own. A new call of this kind fails here until its guard has a test.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from tests.sources import ROOT, dotted_name, list_nodes, read_modules

#: By module: names that are also methods of lists and strings count only where they belong to a module of files.
#: A directory that ``tempfile`` makes has a name of its own, so it is proven by how it is made.
DELETING = {
    "os": {"unlink", "remove", "rmdir", "removedirs", "rename", "renames", "replace", "truncate", "ftruncate"},
    "shutil": {"rmtree", "move"},
    "LIBC": {"fallocate"},
}
METHODS = {"unlink", "rmdir", "rmtree", "write_text", "write_bytes", "touch"}

PRUNING = "tests/record/test_retention.py::test_a_directory_of_another_program_is_never_touched"
RECORD = "tests/record/test_run_writer.py::test_the_log_is_exactly_what_the_host_wrote"
STATE = "tests/agent/test_state_dir.py::test_files_of_the_user_in_the_state_directory_are_never_taken_for_ours"
SPOOL = "tests/agent/test_log_spool.py::test_a_log_over_the_limit_arrives_whole_and_acknowledged_bytes_are_freed"
CLAIM = "tests/agent/test_state_dir.py::test_a_planted_claim_is_not_followed"
DEMO = "tests/demo/test_workdir.py::test_files_that_the_user_made_meanwhile_stay"
CONVERTER = "tests/tasks/test_task_weights.py::test_the_converter_splits_merges_and_reads_checkpoints"
CHECKPOINTS = "tests/tasks/test_task_resume.py::test_checkpoints_of_another_run_or_trainer_in_the_same_directory_stay"

WAITING = "tests/record/test_waiting_runs.py::test_only_files_of_waits_are_deleted"
SYNC = "tests/sync/test_host_exchange.py::"
SYNC_TOKEN = "tests/run/test_sync_command.py::test_a_shared_directory_is_written_once_and_the_source_never"
SYNC_END = "tests/agent/test_sync_question.py::test_a_sync_that_ends_in_the_middle_leaves_the_old_files_only"

GUARDS = {
    "fanout/notify/metrics_file.py:_write": "tests/notify/test_metrics_file.py::test_file_of_another_program_is_refused",
    "fanout/agent/overflow_buffer.py:punch_hole": SPOOL,
    "fanout/agent/state_dir.py:make_private": "tests/agent/test_state_dir.py::test_the_directory_belongs_to_the_user_only",
    "fanout/agent/claim_files.py:write_claim": CLAIM,
    "fanout/agent/claim_files.py:release_claim": CLAIM,
    "fanout/agent/state_dir.py:remove_stale_files": STATE,
    "fanout/agent/state_dir.py:remove_tree": "tests/agent/test_state_dir.py::test_removing_a_run_follows_no_link",
    "fanout/agent/torch_dirs.py:_remove_files": "tests/agent/test_rank_files.py::test_only_files_of_torch_are_deleted",
    "fanout/agent/prepare.py:_publish_directory": "tests/agent/test_state_dir.py::test_runs_are_found_by_their_directories",
    "fanout/agent/prepare.py:_write_run_info": "tests/agent/test_state_dir.py::test_the_directory_belongs_to_the_user_only",
    "fanout/agent/probes/sandbox.py:run_sandboxed": "tests/checks/test_playing.py::test_other_effects_of_the_script_stay_in_the_sandbox",
    "fanout/agent/probes/recorder.py:write_program": "tests/checks/test_playing.py::test_other_effects_of_the_script_stay_in_the_sandbox",
    "fanout/agent/probes/shared_dir.py:_remove_tokens": "tests/checks/test_probes_around.py::test_only_tokens_of_a_check_are_deleted",
    "fanout/agent/run_files.py:skip_to": SPOOL,
    "fanout/agent/probes/sync_state.py:delete_token": SYNC_TOKEN,
    "fanout/agent/probes/sync_state.py:lock_target": "tests/agent/test_sync_question.py::test_a_second_sync_of_a_directory_is_refused_and_names_the_first",
    "fanout/agent/probes/sync_state.py:write_manifest": f"{SYNC}test_only_files_that_an_earlier_sync_created_are_deleted",
    "fanout/agent/probes/sync_writer.py:publish_files": f"{SYNC}test_links_of_the_host_are_never_followed",
    "fanout/agent/probes/sync_writer.py:_discard_file": SYNC_END,
    "fanout/agent/probes/sync_writer.py:delete_earlier": f"{SYNC}test_only_files_that_an_earlier_sync_created_are_deleted",
    "fanout/agent/probes/sync_writer.py:delete_stale_temporaries": f"{SYNC}test_temporary_files_of_a_killed_sync_are_deleted_and_files_with_other_names_are_not",
    "fanout/agent/stack_hook.py:install_hook": "tests/agent/test_stack_hook.py::test_the_users_own_sitecustomize_is_loaded_as_usual",
    "fanout/demo/workdir.py:_delete_demo_files": DEMO,
    "fanout/demo/workdir.py:_delete_host_directory": DEMO,
    "fanout/demo/workdir.py:_delete_project": DEMO,
    "fanout/demo/embedded_lab.py:_write_private_file": "tests/demo/test_workdir.py::test_files_that_no_demo_made_are_refused_and_stay",
    "fanout/record/writer_lock.py:write_entry": "tests/record/test_retention.py::test_no_link_is_followed_or_deleted",
    "fanout/remote/transports/openssh_process.py:mark_opened": "tests/remote/test_contract.py::test_dials_leave_no_descriptor_and_no_child",
    "fanout/commands/lnav.py:run_lnav": "tests/commands/test_lnav.py::test_the_format_is_installed_where_lnav_looks",
    "fanout/record/ownership.py:_delete_files": PRUNING,
    "fanout/run/page_file.py:write": "tests/run/test_page_file.py::test_only_a_page_is_overwritten",
    "fanout/run/page_file.py:_replace_file": "tests/run/test_page_file.py::test_only_a_page_is_overwritten",
    "fanout/record/run_writer.py:write_file": RECORD,
    "fanout/record/waiting_runs.py:move_log": WAITING,
    "fanout/record/waiting_runs.py:_delete_files": WAITING,
    "fanout/record/request_file.py:write_request_file": "tests/record/test_save_request.py::test_request_replaces_only_an_earlier_request",
    "tasks/llada2/weights.py:publish": CONVERTER,
    "tasks/llada2/weights.py:write_assets": CONVERTER,
    "tasks/llada2/hf_folder.py:write_tensors": CONVERTER,
    "tasks/llada2/checkpoint.py:_remove": CHECKPOINTS,
    "tasks/llada2/checkpoint.py:_is_shared": CHECKPOINTS,
    "tasks/llada2/checkpoint.py:_sweep": CHECKPOINTS,
    "tasks/llada2/checkpoint.py:_publish": CHECKPOINTS,
}


def is_destructive(call: ast.Call) -> bool:
    """Return whether the call deletes, renames, truncates or overwrites a file."""
    name = dotted_name(call.func)
    owner, _, last = name.rpartition(".")
    if name in ("open", "os.fdopen") or last == "open":
        words = [argument.value for argument in ast.walk(call) if isinstance(argument, ast.Constant)]
        fresh = any(isinstance(node, ast.Attribute) and node.attr in ("O_EXCL", "O_APPEND") for node in ast.walk(call))
        return any(isinstance(word, str) and word[:1] == "w" and len(word) <= 2 for word in words) and not fresh
    return last in DELETING.get(owner.rpartition(".")[2], ()) or (last in METHODS and owner not in ("", "os", "shutil"))


def functions_that_delete() -> Iterator[str]:
    for module in read_modules("fanout", "tasks"):
        for function in list_nodes(module):
            if isinstance(function, ast.FunctionDef):
                calls = [node for node in ast.walk(function) if isinstance(node, ast.Call)]
                if any(map(is_destructive, calls)):
                    yield f"{module.path}:{function.name}"


def test_every_deletion_has_a_guard_with_a_test() -> None:
    assert set(functions_that_delete()) == set(GUARDS)


@pytest.mark.parametrize("test", sorted(set(GUARDS.values())))
def test_the_test_of_a_guard_exists(test: str) -> None:
    path, _, name = test.partition("::")
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    assert name in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("os.unlink(path)", True),
        ("shutil.rmtree(path)", True),
        ("Path(path).unlink()", True),
        ("open(path, 'w')", True),
        ("open(path, mode='wb')", True),
        ("path.write_text('x')", True),
        ("os.rename(a, b)", True),
        ("open(path, 'rb')", False),
        ("text.replace('a', 'b')", False),
        ("names.remove('a')", False),
    ],
)
def test_calls_that_destroy_are_recognized(code: str, found: bool) -> None:
    call = ast.parse(code, mode="eval").body
    assert isinstance(call, ast.Call)
    assert is_destructive(call) == found


def test_no_target_of_make_deletes_what_a_training_run_wrote() -> None:
    recipes = [line for line in (ROOT / "Makefile").read_text(encoding="utf-8").splitlines() if "rm -r" in line]
    assert recipes
    assert not [line for line in recipes if "outputs" in line or "$(HOME)" in line]
