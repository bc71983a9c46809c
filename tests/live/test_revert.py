"""One of several disks could not pivot: the others, which have, come back."""

import copy

from harness import death, sweep
from harness.proxy import PASS, Proxy, Reply

BOTH = {("job-finalize", 3), ("block-stream", 2)}


def test_a_header_that_could_not_be_put_back_is_tried_again(version):
    """The third disk is refused its pivot, and the first, whose chain is the old one again, its header."""
    scenario = copy.copy(death.MERGE_THREE)
    scenario.upset = lambda m: Reply("injected error") if m.kind == "command" and (m.name, m.nth) in BOTH else PASS
    with scenario.stage(version) as stage, Proxy(stage.vm.qmp_path) as proxy:
        case = sweep.Case(stage, proxy, scenario, 0)
        result = sweep.sound(case.start(None).wait()).expect(7)
        assert case.judge_result(result) == "old"
