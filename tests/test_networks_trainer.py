import copy
import os
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from _threads import global_generators_left_alone, in_threads
from skorch.callbacks import Callback, EarlyStopping, LRScheduler
from torch import nn

from skhash._files import write_checked
from skhash.networks import HashNet, TrainingSet
from skhash.networks._random import draws_randomly


class Squares(nn.Module):
    """Mean squared error, and a number that the criterion learns and one that it counts."""

    def __init__(self):
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(1))
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, outputs, targets):
        if self.training:
            self.calls += 1
        return (outputs - targets - self.shift).square().mean()


class Record(Callback):
    """Keeps the targets of every training batch."""

    def __init__(self):
        self.batches = []

    def on_batch_begin(self, net, batch=None, training=False, **kwargs):
        if training:
            self.batches.append(batch[1].ravel().tolist())


class Stop(Callback):
    """Raises at the start of a batch."""

    def __init__(self, n_batches, error):
        self.n_batches, self.error = n_batches, error

    def on_batch_begin(self, net, training=False, **kwargs):
        self.n_batches -= training
        if self.n_batches < 0:
            raise self.error


def make_data(n=40, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 6)).astype(np.float32)
    targets = np.tanh(X @ rng.normal(size=(6, 3))).astype(np.float32)
    return TrainingSet(X, targets, np.arange(n))


def make_module(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.5), nn.Linear(8, 3))


def train(data=None, *, module=None, criterion=None, **params):
    """A trained net, with settings that leave nothing out that a resumed run could lose."""
    settings = {
        "optimizer__momentum": 0.9,
        "optimizer__weight_decay": 0.01,
        "lr": 0.05,
        "batch_size": 8,
        "max_epochs": 6,
        "callbacks": [LRScheduler("StepLR", step_size=2, gamma=0.5), *params.pop("more", [])],
        "seed": 3,
    }
    module = make_module() if module is None else module
    data = make_data() if data is None else data
    criterion = Squares() if criterion is None else criterion
    return HashNet(module, criterion, **{**settings, **params}).fit(data)


def stopped_early(*, more=(), **params):
    """Trained on one part of the data and stopped by the loss on the other."""
    data = make_data()
    valid = TrainingSet(data.inputs, data.targets, np.arange(30, 40))
    params = {"patience": 2, "max_epochs": 30, "criterion": nn.MSELoss(), **params}
    params["callbacks"] = list(more)
    return train(TrainingSet(data.inputs, data.targets, np.arange(30)), valid=valid, **params)


def assert_same_state(first, second):
    for a, b in ((first.module_, second.module_), (first.criterion_, second.criterion_)):
        for key, value in a.state_dict().items():
            assert torch.equal(value, b.state_dict()[key]), key
    losses = [
        [(row["epoch"], row["train_loss"], row.get("valid_loss")) for row in net.history]
        for net in (first, second)
    ]
    assert losses[0] == losses[1]


def test_training_lowers_the_loss_and_trains_the_criterion_too():
    net = train(max_epochs=20, module=nn.Linear(6, 3))
    assert net.history[-1]["train_loss"] < 0.3 * net.history[0]["train_loss"]
    assert net.criterion_.shift != 0
    assert net.criterion_.calls == 20 * 5


def test_the_seed_decides_the_weights():
    assert_same_state(train(), train())
    other = train(seed=4)
    assert not torch.equal(other.module_[0].weight, train().module_[0].weight)


def test_every_epoch_takes_all_rows_in_an_order_of_its_own():
    data = make_data(20)
    rows = np.array([1, 3, 4, 8, 9, 12, 17])
    record = Record()
    data = TrainingSet(data.inputs, np.arange(20.0)[:, None], rows)
    train(data, batch_size=3, max_epochs=4, lr=1e-4, callbacks=[record])
    assert [len(batch) for batch in record.batches] == [3, 3, 1] * 4
    epochs = [[row for batch in record.batches[i : i + 3] for row in batch] for i in (0, 3, 6, 9)]
    assert all(sorted(epoch) == rows.tolist() for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4


def test_a_batch_holds_the_targets_of_its_inputs(rng):
    X = rng.normal(size=(9, 4)).astype(np.float32)
    dense = rng.integers(0, 2, (9, 5)).astype(np.float32)
    rows = np.array([2, 3, 7])
    for targets in (dense, sp.csr_array(dense)):
        inputs, batch = TrainingSet(X, targets, rows).__getitems__([2, 0])
        np.testing.assert_array_equal(inputs, X[[7, 2]])
        np.testing.assert_array_equal(batch, dense[[7, 2]])
        inputs, target = TrainingSet(X, targets, rows)[1]
        np.testing.assert_array_equal(inputs, X[3])
        np.testing.assert_array_equal(target, dense[3])


@pytest.mark.parametrize("run", [train, stopped_early])
def test_a_broken_training_goes_on_to_the_same_weights(tmp_path, run):
    unbroken = run()
    batches_an_epoch = unbroken.history[0]["train_batch_count"]
    n_done = len(unbroken.history) - 2
    n_batches = n_done * batches_an_epoch + 2  # stops amid an epoch
    assert n_done > 1
    assert batches_an_epoch > 2
    checkpoint, record = tmp_path / "folder" / "training.pt", Record()
    with pytest.raises(RuntimeError, match="power cut"):
        run(checkpoint=checkpoint, more=[Stop(n_batches, RuntimeError("power cut"))])
    assert [file.name for file in checkpoint.parent.iterdir()] == ["training.pt"]
    assert_same_state(run(checkpoint=checkpoint, more=[record]), unbroken)
    assert len(record.batches) == (len(unbroken.history) - n_done) * batches_an_epoch


def test_early_stopping_restores_the_best_weights():
    net = stopped_early()
    losses = net.history[:, "valid_loss"]
    assert len(losses) < 30
    assert min(losses) == losses[-3] < losses[-1]
    data = make_data()
    with torch.no_grad():
        outputs = net.module_.eval()(torch.from_numpy(data.inputs[30:]))
    loss = np.square(outputs.numpy() - data.targets[30:]).mean()
    assert loss == pytest.approx(losses[-3], rel=1e-4)


def test_a_finished_training_is_not_repeated(tmp_path):
    for run in (train, stopped_early):
        checkpoint = tmp_path / f"{run.__name__}.pt"
        first, record = run(checkpoint=checkpoint), Record()
        assert_same_state(run(checkpoint=checkpoint, more=[record]), first)
        assert len(record.batches) == (0 if run is train else 4)  # the epoch that stopped it


def test_more_epochs_train_on(tmp_path):
    train(checkpoint=tmp_path / "a.pt", max_epochs=2)
    assert_same_state(train(checkpoint=tmp_path / "a.pt", max_epochs=5), train(max_epochs=5))
    with pytest.raises(ValueError, match=r"a\.pt.* holds 5 epochs .* max_epochs=3"):
        train(checkpoint=tmp_path / "a.pt", max_epochs=3)


@pytest.mark.parametrize(
    "changes",
    [
        {"data": make_data(seed=1)},
        {"data": make_data(39)},
        {"module": make_module(1)},
        {"module": nn.Sequential(*list(make_module())[::2])},
        {"seed": 4},
        {"lr": 0.04},
        {"batch_size": 9},
        {"optimizer": torch.optim.RMSprop},
        {"optimizer__weight_decay": 0.02},
        {"valid": make_data(10)},
        {"amp": True},
    ],
)
def test_the_state_of_another_training_is_refused(tmp_path, changes):
    train(checkpoint=tmp_path / "a.pt", max_epochs=1)
    with pytest.raises(ValueError, match=r"a\.pt.* is of another training"):
        train(checkpoint=tmp_path / "a.pt", **changes)


def test_a_damaged_state_is_refused(tmp_path):
    file = tmp_path / "a.pt"
    train(checkpoint=file, max_epochs=1)
    whole = file.read_bytes()
    for content in (b"", whole[: len(whole) // 2], b"words"):
        file.write_bytes(content)
        with pytest.raises(ValueError, match=r"checkpoint .*a\.pt is .*damaged.*Delete it"):
            train(checkpoint=file)


def test_no_flipped_bit_of_a_state_goes_unseen(tmp_path):
    file = tmp_path / "a.pt"
    train(checkpoint=file, max_epochs=1)
    whole = bytearray(file.read_bytes())
    for place in np.linspace(0, len(whole) - 1, 60).astype(int):
        flipped = whole.copy()
        flipped[place] ^= 4
        file.write_bytes(flipped)
        with pytest.raises(ValueError, match=r"a\.pt is .*damaged"):
            train(checkpoint=file, max_epochs=1)


def test_an_interrupted_write_leaves_the_state_before(tmp_path, monkeypatch):
    train(checkpoint=tmp_path / "a.pt", max_epochs=2)
    before = (tmp_path / "a.pt").read_bytes()

    def save(state, file):
        file.write(b"half of it")
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", save)
    with pytest.raises(OSError, match="disk full"):
        train(checkpoint=tmp_path / "a.pt", max_epochs=3)
    assert [file.name for file in tmp_path.iterdir()] == ["a.pt"]
    assert (tmp_path / "a.pt").read_bytes() == before


def test_a_keyboard_interrupt_is_the_users():
    with pytest.raises(KeyboardInterrupt):
        train(more=[Stop(7, KeyboardInterrupt())])
    with pytest.raises(KeyboardInterrupt):
        stopped_early(more=[Stop(3, KeyboardInterrupt())])


def test_early_stopping_may_come_from_the_user():
    net = train(more=[EarlyStopping("train_loss", patience=1, threshold=0.5)])
    assert len(net.history) < 6


def test_a_training_that_diverges_says_so():
    with pytest.raises(FloatingPointError, match=r"epoch .*lower lr"):
        train(lr=1e9)


def test_mixed_precision_trains_about_the_same():
    module = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))
    exact = train(module=copy.deepcopy(module))
    rough = train(module=copy.deepcopy(module), amp=True)
    assert rough.module_[0].weight.dtype == torch.float32
    assert not torch.equal(rough.module_[0].weight, exact.module_[0].weight)
    losses = [net.history[-1]["train_loss"] for net in (exact, rough)]
    assert losses[1] == pytest.approx(losses[0], rel=0.02)


def test_progress_is_printed_on_request(capsys):
    train(max_epochs=2)
    assert capsys.readouterr().out == ""
    train(max_epochs=2, verbose=1)
    assert "train_loss" in capsys.readouterr().out


def test_subclasses_may_step_their_own_way():
    class Half(HashNet):
        """Trains on every other batch."""

        def train_step_single(self, batch, **params):
            step = super().train_step_single(batch, **params)
            if len(self.history[-1]["batches"]) % 2:
                self.optimizer_.zero_grad()
            return step

    net = Half(make_module(), Squares(), max_epochs=1, batch_size=8, lr=0.1).fit(make_data())
    assert not torch.equal(net.module_[0].weight, make_module()[0].weight)


@pytest.mark.parametrize("run", [train, stopped_early])
def test_trainings_in_threads_do_not_draw_from_each_others_seeds(run):
    def of(seed):
        module = make_module()  # outside of the thread: it draws from torch's generator
        return lambda: run(seed=seed, module=module)

    alone = [of(seed)() for seed in range(4)]
    for _ in range(3):
        for net, expected in zip(in_threads(*map(of, range(4))), alone, strict=True):
            assert_same_state(net, expected)


def test_no_global_generator_is_drawn_from_or_seeded():
    dropping, linear = make_module(), nn.Linear(6, 3)  # nothing is lent to the second
    with global_generators_left_alone():
        stopped_early(module=dropping)
        train(module=linear)


class Scaled(Squares):
    """A loss whose representation does not show its setting."""

    def __init__(self, strength):
        super().__init__()
        self.strength = strength

    def forward(self, outputs, targets):
        return self.strength * super().forward(outputs, targets)


class Doubled(Scaled):
    """Another loss with the same setting and the same state."""

    def forward(self, outputs, targets):
        return 2 * super().forward(outputs, targets)


def test_the_state_of_another_loss_is_refused_though_it_looks_the_same(tmp_path):
    train(checkpoint=tmp_path / "a.pt", max_epochs=1, criterion=Scaled(1))
    Doubled.__name__ = Doubled.__qualname__ = "Scaled"
    assert len({repr(loss) for loss in (Scaled(1), Scaled(9), Doubled(1))}) == 1
    for loss in (Scaled(9), Doubled(1)):
        with pytest.raises(ValueError, match=r"a\.pt.* is of another training .*loss"):
            train(checkpoint=tmp_path / "a.pt", criterion=loss)
    assert len(train(checkpoint=tmp_path / "a.pt", criterion=Scaled(1)).history) == 6


def steps(**params):
    return LRScheduler("StepLR", **{"step_size": 2, "gamma": 0.5, **params})


@pytest.mark.parametrize(
    ("before", "after", "match"),
    [
        ([steps()], [], "another training .*learning rate schedule"),
        ([], [steps()], "another training .*learning rate schedule"),
        ([steps()], [steps(gamma=0.4)], "another training .*learning rate schedule"),
        ([steps()], [LRScheduler("ExponentialLR", gamma=0.5)], "another training .*schedule"),
        ([], [EarlyStopping("train_loss")], r"other callbacks .*\(EarlyStopping\)"),
        ([EarlyStopping("train_loss")], [], r"other callbacks .*\(EarlyStopping\)"),
    ],
)
def test_callbacks_that_decide_the_training_must_be_the_same(tmp_path, before, after, match):
    train(checkpoint=tmp_path / "a.pt", max_epochs=2, callbacks=before)
    with pytest.raises(ValueError, match=rf"(?s)a\.pt.*{match}"):
        train(checkpoint=tmp_path / "a.pt", callbacks=after)


def test_callbacks_that_only_watch_may_come_and_go(tmp_path):
    train(checkpoint=tmp_path / "a.pt", max_epochs=2, more=[Record()])
    train(checkpoint=tmp_path / "a.pt", max_epochs=4)
    assert_same_state(train(checkpoint=tmp_path / "a.pt", more=[Record(), Record()]), train())


def test_more_epochs_of_a_schedule_for_so_many_are_refused(tmp_path):
    def run(max_epochs, **params):
        schedule = LRScheduler("CosineAnnealingLR", T_max=max_epochs)
        return train(max_epochs=max_epochs, callbacks=[schedule], **params)

    run(3, checkpoint=tmp_path / "a.pt")
    with pytest.raises(ValueError, match=r"another training .*schedule.*max_epochs"):
        run(5, checkpoint=tmp_path / "a.pt")
    assert_same_state(run(3, checkpoint=tmp_path / "a.pt"), run(3))


@pytest.mark.slow
def test_what_a_killed_write_left_goes_with_the_next(tmp_path):
    script = f"""
        import os, signal, sys
        sys.path.insert(0, {os.path.dirname(__file__)!r})
        import torch
        from test_networks_trainer import train

        def save(state, file):
            file.write(b"half of it")
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)

        torch.save = save
        train(checkpoint={os.fspath(tmp_path / "a.pt")!r})
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    assert left.name != "a.pt"
    (tmp_path / "notes.tmp").write_text("somebody else's")
    train(checkpoint=tmp_path / "a.pt", max_epochs=1)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.pt", "notes.tmp"]


def test_a_whole_file_of_something_else_is_refused(tmp_path):
    file = tmp_path / "a.pt"
    train(checkpoint=file, max_epochs=1)
    state = torch.load(file, weights_only=True)
    lacking = {name: value for name, value in state.items() if name != "optimizer"}
    for content in (lacking, {}, [1, 2], torch.zeros(3), "words"):
        write_checked(file, lambda stream, content=content: torch.save(content, stream))
        with pytest.raises(ValueError, match=r"a\.pt.* another kind .*delete it"):
            train(checkpoint=file)
    for content in (b"", b"words"):
        write_checked(file, lambda stream, content=content: stream.write(content))
        with pytest.raises(ValueError, match=r"a\.pt.* another kind .*delete it"):
            train(checkpoint=file)


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        (nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.BatchNorm1d(2)), False),
        (nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.0)), False),
        (nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.1)), True),
        (nn.LSTM(2, 2, num_layers=2), False),
        (nn.LSTM(2, 2, num_layers=2, dropout=0.1), True),
        (nn.RReLU(), True),
        (Squares(), True),  # may do anything
    ],
)
def test_whether_a_module_draws_random_numbers(module, expected):
    assert draws_randomly(module) == expected
