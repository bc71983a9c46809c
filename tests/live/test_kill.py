"""rechain is killed at any message, in the middle of anything; `recover` settles it."""

import pytest

from harness import sweep


@pytest.mark.parametrize("scenario", sweep.SCENARIOS, ids=str)
def test_killed_at_any_message_it_recovers(version, scenario):
    sweep.sweep(scenario, sweep.killed, version, samples=3)


@pytest.mark.parametrize("scenario", sweep.SCENARIOS, ids=str)
def test_killed_at_any_message_it_can_be_undone(version, scenario):
    sweep.sweep(scenario, sweep.killed_to_undo, version, samples=1)


@pytest.mark.parametrize("scenario", sweep.SCENARIOS, ids=str)
def test_killed_at_any_message_it_can_be_finished(version, scenario):
    sweep.sweep(scenario, sweep.killed_to_finish, version, samples=1)


@pytest.mark.parametrize("scenario", sweep.SCENARIOS, ids=str)
def test_recover_may_be_killed_too(version, scenario):
    sweep.sweep(scenario, sweep.killed_twice, version, samples=1)
