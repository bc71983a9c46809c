"""All disks of an operation go over to their new chains, or none does; whatever QEMU refuses."""

import json

import pytest

from harness import sweep
from harness.proxy import Proxy, refuse
from harness.sweep import LONG, Scenario, Stage, copying, on_disks, sound, without

COPY = Scenario("copy", 2, copying(), lambda stage: {id: [stage.target(id)] for id in stage.chains})
SHALLOW = Scenario("shallow", 2, copying("--shallow"), Stage.moved)
MERGES = [Scenario(name, 2, on_disks(verb, *options), without(*dropped), names=LONG, makes=False)
          for name, verb, options, dropped in (
              ("commit", "commit", [], [0]),
              ("commit-far", "commit", ["base=low.qcow2"], [0, 1]),
              ("pull", "pull", ["base=template.qcow2"], [1, 2]),
              ("flatten", "pull", [], [1, 2, 3]),
              ("inner-pull", "pull", ["top=middle.qcow2"], [2, 3]),
              ("inner", "commit", ["top=middle.qcow2"], [1]))]
INNER_FAR = Scenario("inner-far", 2, on_disks("commit", "top=upper.qcow2,base=low.qcow2"), without(1, 2),
                     names=("template", "low", "middle", "upper", "current"), makes=False)
ALL = [COPY, SHALLOW, *MERGES, INNER_FAR, sweep.MERGE_THREE]


def styled(scenario, style):
    return Scenario(scenario.name, scenario.disks, scenario.command, scenario.after, style=style,
                    **{**scenario.options, "reopens": True})


def goes_on(scenario, style, nth):
    """Nodes that QEMU named itself cannot be reopened: such disks change last, and are tried again."""
    if style == "blockdev":
        return False
    if scenario.name == "merge-three":
        return nth > 1              # the active commit goes first
    return scenario.name in ("pull", "flatten", "inner-pull", "inner", "inner-far")


@pytest.mark.parametrize("nth", [1, 2])
@pytest.mark.parametrize("scenario", ALL, ids=str)
def test_where_one_disk_cannot_switch_all_stay_where_they_were(version, style, scenario, nth):
    """job-finalize is refused after the commit record: the other disk has switched, and comes back."""
    scenario = styled(scenario, style)
    with scenario.stage(version) as stage, Proxy(stage.vm.qmp_path) as proxy:
        proxy.policy = stage.writing(refuse("job-finalize", "no pivot today", nth=nth))
        result = sound(stage.cli.run(*scenario.command(stage, proxy), json=True))
        proxy.cut()
        if goes_on(scenario, style, nth):
            assert result.expect(0).json["state"] == "done"
            stage.judge(True, scenario.after(stage))
            return
        assert result.expect(7).json["state"] == "undone"
        assert "no pivot today" in json.dumps(result.json["error"]), str(result)
        stage.judge(False, stage.old())
