"""The monitor says no, or falls silent, at any message; other people use QEMU meanwhile."""

import pytest

from harness import sweep


@pytest.mark.parametrize("scenario", sweep.SCENARIOS, ids=str)
def test_a_refusal_of_any_one_command_is_done_or_undone(version, scenario):
    sweep.sweep(scenario, sweep.refused, version, samples=3)


@pytest.mark.parametrize("scenario", sweep.SCENARIOS, ids=str)
def test_a_cut_before_any_message_is_done_or_undone(version, scenario):
    sweep.sweep(scenario, sweep.cut, version, samples=2)


@pytest.mark.parametrize("scenario", sweep.SCENARIOS, ids=str)
def test_a_cut_after_any_message_is_done_or_undone(version, scenario):
    sweep.sweep(scenario, sweep.cut_after, version, samples=2)
