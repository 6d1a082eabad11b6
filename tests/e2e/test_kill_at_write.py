"""The scheduler is killed right before each single change that it makes to its files, from its start through cordons,
drains and their ends. Whatever was answered before holds afterwards; what was under way holds or does not, but is never
half done.

TANDEM_EVERY_WRITE=1 tries every change, which takes minutes; else every ninth is tried.
"""

import contextlib
import os
import pathlib
import subprocess

import grpc

from harness import SLOW, eventually
from protos import admin, admin_rpc
from rig import Rig

EVERY = 1 if os.environ.get("TANDEM_EVERY_WRITE") else 9
MOST = 1000  # changes of one life; far more than there are

CORDON, UNCORDON, DRAIN, UNDRAIN = "cordon", "uncordon", "drain", "undrain"
STEPS = [(CORDON, 1), (DRAIN, 2), (UNCORDON, 1), (UNDRAIN, 2)]
NOTHING = (False, "")


def ask(rig, verb, index, reason):
    keys = {"name": f"nodes/rig/devices/{index}", "mutation": admin.Mutation(reason=reason)}
    with grpc.insecure_channel(f"127.0.0.1:{rig.admin_port}") as channel:
        stub = admin_rpc.AdminServiceStub(channel)
        if verb == CORDON:
            stub.CordonDevice(admin.CordonDeviceRequest(**keys), timeout=20 * SLOW)
        elif verb == UNCORDON:
            stub.UncordonDevice(admin.UncordonDeviceRequest(**keys), timeout=20 * SLOW)
        elif verb == UNDRAIN:
            stub.UndrainDevice(admin.UndrainDeviceRequest(**keys), timeout=20 * SLOW)
        else:
            for _ in stub.DrainDevice(admin.DrainDeviceRequest(**keys), timeout=20 * SLOW):
                pass


def known_wishes(rig):
    """What operators want of the devices, as the scheduler knows it once there is one: (cordoned, why) by index."""
    def ask_status():
        with contextlib.suppress(grpc.RpcError):  # it may be shot at any time
            devices = rig.status().devices
            return len(devices) == 3 and {int(d.name.rsplit("/", 1)[1]): (True, d.reason) if d.cordoned else NOTHING for d in devices}
    return eventually(ask_status, 20, "a scheduler that knows all devices")


def one_life(rig, arm, n, held):
    """From a start to the last step, with one death before change `n`. False: there were fewer changes."""
    arm.write_text(str(n))
    lives = rig.restarts["scheduler"]
    rig.kill("scheduler")
    eventually(lambda: rig.restarts["scheduler"] > lives, 10, "it is started again")
    for step, (verb, index) in enumerate(STEPS):
        reason = f"shot {n}, step {step}"
        after = (True, reason) if verb in (CORDON, DRAIN) else NOTHING
        for attempt in range(3):
            assert known_wishes(rig) == held, f"killed before change {n}, then before {verb} {index}"
            try:
                ask(rig, verb, index, reason)
                held[index] = after
                break
            except grpc.RpcError as error:
                assert error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED), error
                found = known_wishes(rig)[index]
                assert found in (held[index], after), f"killed before change {n}, in {verb} {index}: neither done nor undone"
                held[index] = found
    assert known_wishes(rig) == held, f"killed before change {n}, then at the end"
    if arm.exists():
        arm.unlink()
        return False
    return True


def test_every_answered_wish_survives_a_kill_at_any_write(tmp_path):
    shim, arm = tmp_path / "kill_at_write.so", tmp_path / "arm"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", pathlib.Path(__file__).with_name("kill_at_write.c"), "-o", shim, "-ldl"], check=True)
    with Rig(tmp_path / "rig", ["sim:RTX3090"] * 3, time_scale=0.2 * SLOW, restart_after=0.05) as rig:
        rig.commands["scheduler"] = ["env", f"LD_PRELOAD={shim}", f"TANDEM_KILL_UNDER={rig.tmp}/state", f"TANDEM_KILL_ARM={arm}",
                                     *rig.commands["scheduler"]]
        held = known_wishes(rig)
        assert set(held.values()) == {NOTHING}
        shot = 0
        while one_life(rig, arm, shot, held):
            shot += EVERY
            assert shot < MOST
        assert shot > 20, "next to nothing was written: the shim does not see it"
