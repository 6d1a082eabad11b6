"""The short form of scripts/soak: the faults of one seed while every token is checked."""

from harness import SLOW
from soak import KINDS, soak


def test_a_minute_of_faults():
    said = []
    assert soak(minutes=1, fault_every=4 * SLOW, seed=4, kinds=KINDS, streams=8, say=said.append), "\n".join(said)
