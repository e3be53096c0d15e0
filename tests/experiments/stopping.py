"""Runs that are stopped, and what it means that two have ended alike."""

import torch

from dropact.experiments.watch import Watcher


class Stopped(Exception):
    pass


class StopAfter(Watcher):
    """Ends the process, as far as the engine can tell, once it has made so many steps itself."""

    def __init__(self, steps):
        self.left = steps

    def stepped(self, made, seen):
        self.left -= 1
        if self.left < 0:
            raise Stopped


def assert_same(one, two):
    assert one.metrics == two.metrics
    assert one.result == two.result
    assert one.state.keys() == two.state.keys()
    assert all(torch.equal(one.state[name], two.state[name]) for name in one.state)
