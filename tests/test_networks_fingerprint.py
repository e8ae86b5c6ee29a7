import copy
import pickle
import re
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from torch import nn

from skhash.networks._fingerprint import module_digest, object_digest
from skhash.networks._random import seeded

FACTOR = 2.0


def scaled(x):
    return FACTOR * x


class Net(nn.Module):
    """A network with settings of all kinds."""

    power = 1

    def __init__(self, **settings):
        super().__init__()
        self.layer = nn.Linear(2, 2)
        nn.init.ones_(self.layer.weight)
        nn.init.zeros_(self.layer.bias)
        self.norm = nn.BatchNorm1d(2)
        self.__dict__.update(settings)

    def forward(self, x):
        return scaled(self.norm(self.layer(x))) ** self.power


class Negative(Net):
    def forward(self, x):
        return -super().forward(x)


def class_with(**attributes):
    """Classes of one name and origin, as a cell of a notebook defines them again and again."""
    return type("Twin", (Net,), {"__module__": __name__, **attributes})


def test_sparse_matrices_are_told_by_their_entries():
    matrix = sp.csr_array(np.eye(4, dtype=np.float32))
    digest = object_digest(matrix)
    assert matrix.has_sorted_indices  # which it remembers
    assert object_digest(matrix) == digest
    matrix.data[2] = 5
    assert object_digest(matrix) != digest


def test_modules_of_equal_code_settings_and_weights_have_one_digest():
    net = Net(sizes=[1, 2], names={"b", "a"}, scale=partial(torch.mul, other=2))
    digest = module_digest(net)
    twins = [Net(sizes=[1, 2], names={"a", "b"}, scale=partial(torch.mul, other=2)),
             copy.deepcopy(net), pickle.loads(pickle.dumps(net)), net.eval()]  # fmt: skip
    assert {module_digest(twin) for twin in twins} == {digest}
    net.requires_grad_(False)
    assert module_digest(net) == digest


def test_whatever_changes_the_outputs_changes_the_digest():
    def with_hook():
        net = Net()
        net.layer.register_forward_hook(lambda module, args, output: -output)
        return net

    def with_bias():
        net = Net()
        net.layer.bias.data += 1
        return net

    def with_statistics():
        net = Net()
        net.norm.running_mean += 1
        return net

    def patched():
        net = Net()
        net.forward = lambda x: x
        return net

    def sparse():
        net = Net()
        net.layer.weight.data[0, 1] = 0
        return net

    nets = [
        Net(), Net(slope=1), Net(slope=2), Net(slope=1.0), Net(slope=torch.ones(1)),
        Net(slope=torch.zeros(1)), Net(function=torch.relu), Net(function=lambda x: x),
        Net(function=lambda x: x + 1), Net(function=partial(torch.mul, other=2)),
        Net(function=partial(torch.mul, other=3)), Negative(), class_with()(),
        class_with(power=2)(), class_with(power=3)(), class_with(forward=lambda self, x: x)(),
        class_with(forward=lambda self, x: x * 2)(), with_hook(), with_bias(), with_statistics(),
        patched(), sparse(), nn.Sequential(nn.ReLU()), nn.Sequential(nn.Tanh()), nn.LeakyReLU(0.1),
        nn.LeakyReLU(0.2),
    ]  # fmt: skip
    digests = [module_digest(net) for net in nets]
    assert len(set(digests)) == len(nets)


def test_functions_and_constants_that_forward_names_count(monkeypatch):
    digest = module_digest(Net())
    with monkeypatch.context() as patch:
        patch.setitem(globals(), "FACTOR", 3.0)
        assert module_digest(Net()) != digest
    with monkeypatch.context() as patch:
        patch.setitem(globals(), "scaled", lambda x: x)
        assert module_digest(Net()) != digest
    assert module_digest(Net()) == digest


def test_weights_may_be_left_out_but_settings_never():
    net, other = Net(), Net()
    other.layer.weight.data += 1
    other.norm.running_var += 1
    assert module_digest(net) != module_digest(other)
    assert module_digest(net, weights=False) == module_digest(other, weights=False)
    assert module_digest(Net(slope=1), weights=False) != module_digest(net, weights=False)
    for volatile in (other, net):
        volatile.register_buffer("centre", torch.zeros(2), persistent=False)
    other.centre += 1  # not in its state dict
    assert module_digest(net, weights=False) != module_digest(other, weights=False)


def test_a_module_may_hold_itself():
    net = Net()
    net.itself = [net]
    assert module_digest(net) == module_digest(copy.deepcopy(net)) != module_digest(Net())


def test_what_has_no_digest_is_named():
    with pytest.raises(TypeError, match=r"Net\.layer\.guard, 'lock'"):
        net = Net()
        net.layer.guard = threading.Lock()
        module_digest(net)


def test_values_of_any_kind_have_a_digest():
    values = [0, 0.0, False, None, "0", b"0", [0], (0,), {0}, {0: 0}, len, print, [[0], 0],
              [0, [0]], np.zeros(1), np.zeros((1, 1)), np.float32(0), torch.zeros(1), Net,
              Net.forward, Net().forward, SimpleNamespace(a=0), SimpleNamespace(a=1),
              SimpleNamespace(b=0)]  # fmt: skip
    assert len({object_digest(value) for value in values}) == len(values)
    for value in values:
        assert object_digest(copy.deepcopy(value)) == object_digest(value)


def test_digests_are_the_same_in_every_process():
    script = f"""
        import sys
        sys.path.insert(0, {__file__.rpartition("/")[0]!r})
        from test_networks_fingerprint import Net, module_digest
        print(module_digest(Net(names={{"a", "b", "c"}}, sizes=(1, 2))))
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    printed = {subprocess.check_output(command, text=True).strip() for _ in range(2)}
    assert printed == {module_digest(Net(names={"a", "b", "c"}, sizes=(1, 2)))}


def test_libraries_are_known_wherever_they_are(tmp_path):
    """As where PYTHONPATH names the folder that libraries were installed to."""
    package = tmp_path / "wherever" / "layers"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(
        "import threading, torch\nlock = threading.local()\n"
        "class Layer(torch.nn.Module):\n    def forward(self, x):\n        return lock, x\n"
    )
    metadata = package.parent / "layers-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: layers\nVersion: 1.0\n")
    (metadata / "RECORD").write_text("layers/__init__.py,,\nlayers-1.0.dist-info/METADATA,,\n")
    script = f"""
        import sys
        sys.path.insert(0, {str(package.parent)!r})
        from layers import Layer
        from skhash.networks._fingerprint import module_digest
        print(module_digest(Layer()))
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    assert subprocess.run(command, check=False).returncode == 0
    (metadata / "RECORD").unlink()  # now it is a module of one's own beside others' libraries
    result = subprocess.run(command, check=False, capture_output=True, text=True)
    assert "cannot pickle '_thread._local' object" in result.stderr


def test_a_seed_lends_numbers_and_leaves_the_global_generator_alone():
    before = torch.random.get_rng_state()
    with seeded(3):
        numbers = torch.rand(5)
        with seeded(4):
            torch.rand(7)
        more = torch.rand(5)
    assert torch.equal(torch.random.get_rng_state(), before)
    expected = torch.rand(10, generator=torch.Generator().manual_seed(3))
    assert torch.equal(torch.cat([numbers, more]), expected)


def test_threads_get_the_numbers_of_their_own_seeds():
    def draw(seed):
        with seeded(seed):
            return torch.cat([torch.rand(1) for _ in range(200)])

    seeds = list(range(8)) * 4
    before = torch.random.get_rng_state()
    with ThreadPoolExecutor(4) as pool:
        drawn = list(pool.map(draw, seeds))
    for seed, numbers in zip(seeds, drawn, strict=True):
        assert torch.equal(numbers, draw(seed))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_what_pickle_has_a_function_of_its_own_for_is_told_by_that():
    first, again, other, flags = (
        object_digest(re.compile(pattern, flag))
        for pattern, flag in (("a+", 0), ("a+", 0), ("a*", 0), ("a+", re.IGNORECASE))
    )
    assert first == again
    assert len({first, other, flags}) == 3
