"""A mishap at any message: rechain is killed, the monitor says no or falls silent, other people use QEMU
meanwhile. Every case ends in exactly the old world or exactly the new one."""

import pytest

from harness import sweep

# What happens, and at how many messages of each operation (RECHAIN_SWEEP in README.md: at more).
MISHAPS = {
    "killed": (sweep.killed, 3),
    "killed-then-undo": (sweep.killed_to_undo, 1),
    "killed-then-finish": (sweep.killed_to_finish, 1),
    "recover-killed-too": (sweep.killed_twice, 1),
    "command-refused": (sweep.refused, 3),
    "cut-before": (sweep.cut, 2),
    "cut-after": (sweep.cut_after, 2),
}


@pytest.mark.parametrize("scenario", sweep.SCENARIOS, ids=str)
@pytest.mark.parametrize("mishap", MISHAPS)
def test_after_a_mishap_at_any_message_it_is_done_or_undone(version, scenario, mishap):
    what, samples = MISHAPS[mishap]
    sweep.sweep(scenario, what, version, samples)


@pytest.mark.parametrize("scenario", sweep.MERGES, ids=str)
@pytest.mark.parametrize("mishap", ["killed", "command-refused", "cut-after"])
def test_after_a_mishap_a_merge_or_a_copy_is_done_or_undone(version, scenario, mishap):
    """One message of each here; tests/crash/matrix has them all."""
    sweep.sweep(scenario, MISHAPS[mishap][0], version, 1)


@pytest.mark.parametrize("scenario", sweep.REGIONS, ids=str)
@pytest.mark.parametrize("mishap", ["killed", "command-refused", "cut-after"])
def test_an_allocation_is_done_or_undone_after_a_mishap_too(version, scenario, mishap):
    what, samples = MISHAPS[mishap]
    sweep.sweep(scenario, what, version, samples)
