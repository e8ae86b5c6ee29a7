"""Files that are whole or not there, and folders that one process has to itself."""

import errno
import os
import subprocess
import sys
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np
import pytest

from skhash import _files
from skhash._files import (
    folder_lock,
    open_regular,
    read_checked,
    replacing,
    reserve,
    write_checked,
)

fcntl = pytest.importorskip("fcntl")
ROOT = Path(__file__).parents[1]


@contextmanager
def other_process(code, *arguments):
    """A process that runs code and then waits; killed in the end, if not before."""
    code = f"import sys\nfrom skhash._files import *\n{code}"
    command = [sys.executable, "-c", code, *map(str, arguments)]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    try:
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.communicate()


WRITER = """
with replacing(sys.argv[1]) as file:
    file.write(b"theirs")
    file.flush()
    print("ready", flush=True)
    sys.stdin.readline()
print("done", flush=True)
"""
HOLDER = """
with folder_lock(sys.argv[1]):
    print("ready", flush=True)
    sys.stdin.readline()
print("done", flush=True)
"""


def write(path, content=b"ours"):
    with replacing(path) as file:
        file.write(content)


def test_a_file_is_replaced_once_it_is_complete(tmp_path):
    path = tmp_path / "a"
    write(path, b"old")
    with replacing(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [OSError("broken"), KeyboardInterrupt()])
def test_a_failed_write_leaves_nothing(tmp_path, error):
    write(tmp_path / "a", b"old")
    with pytest.raises(type(error)), replacing(tmp_path / "a") as file:
        file.write(b"new")
        raise error
    assert (tmp_path / "a").read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [tmp_path / "a"]


def test_the_file_and_then_its_name_are_put_on_the_disk(tmp_path, monkeypatch):
    synced, real = [], os.fsync

    def fsync(number):
        synced.append(os.path.realpath(f"/proc/self/fd/{number}"))
        real(number)

    monkeypatch.setattr(os, "fsync", fsync)
    write(tmp_path / "a")
    assert len(synced) == 2
    assert synced[0].endswith(".skhash-tmp")
    assert synced[1] == str(tmp_path)


def test_names_as_long_as_the_system_takes_them(tmp_path):
    path = tmp_path / ("n" * 255)
    write(path)
    assert path.read_bytes() == b"ours"


def test_what_a_killed_writer_left_is_removed_by_the_next(tmp_path):
    with other_process(WRITER, tmp_path / "a") as writer:
        (left,) = tmp_path.iterdir()
        writer.kill()
        writer.wait()
    assert list(tmp_path.iterdir()) == [left]
    write(tmp_path / "b")
    assert list(tmp_path.iterdir()) == [tmp_path / "b"]


def test_what_others_are_writing_is_left_alone(tmp_path):
    with other_process(WRITER, tmp_path / "a") as writer:
        write(tmp_path / "a")
        write(tmp_path / "b")
        assert len(list(tmp_path.iterdir())) == 3
        writer.stdin.write("\n")
        writer.stdin.flush()
        assert writer.stdout.readline() == "done\n"
    assert (tmp_path / "a").read_bytes() == b"theirs"
    assert sorted(tmp_path.iterdir()) == [tmp_path / "a", tmp_path / "b"]


def test_a_file_removed_before_it_could_be_locked_is_made_again(tmp_path, monkeypatch):
    real = _files._lock

    def lock(number, **arguments):
        monkeypatch.setattr(_files, "_lock", real)
        _files._remove_stale(tmp_path)
        assert list(tmp_path.iterdir()) == []
        real(number, **arguments)

    monkeypatch.setattr(_files, "_lock", lock)
    write(tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == b"ours"
    assert list(tmp_path.iterdir()) == [tmp_path / "a"]


def test_files_of_others_are_never_taken_for_stale(tmp_path):
    others = [
        tmp_path / name for name in ("a.tmp", ".b.tmp", "x.skhash-tmp", ".0123.skhash-tmp.jpg")
    ]
    for other in others:
        other.touch()
    precious = tmp_path / "precious"
    precious.write_text("content")
    (tmp_path / f".{'0' * 16}.skhash-tmp").symlink_to(precious)
    os.mkfifo(tmp_path / f".{'1' * 16}.skhash-tmp")
    write(tmp_path / "c")
    assert precious.read_text() == "content"
    assert all(other.exists() for other in others)


def test_only_files_are_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name, kind in (("pipe", "a named pipe"), ("folder", "a folder")):
        with pytest.raises(OSError, match=f"{kind}, not a file.*{name}"):
            write(tmp_path / name)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        write(tmp_path / "nowhere" / "a")


def test_a_folder_has_one_holder_at_a_time(tmp_path):
    folder = tmp_path / "new" / "folder"
    with folder_lock(folder):
        with pytest.raises(RuntimeError, match=r"folder '.*new/folder' is in use"):
            folder_lock(folder).__enter__()
        with folder_lock(tmp_path):
            pass
        (folder / "a").touch()
    with folder_lock(folder):
        pass
    assert [file.name for file in folder.iterdir()] == ["a"]


@pytest.mark.parametrize("error", [None, ValueError])
def test_a_lock_leaves_no_empty_folder_that_it_made(tmp_path, error):
    (tmp_path / "old").mkdir()
    for folder in (tmp_path / "new" / "folder", tmp_path / "old"):
        with pytest.raises(error) if error else nullcontext(), folder_lock(folder):
            if error:
                raise error
    assert list(tmp_path.rglob("*")) == [tmp_path / "old"]
    with folder_lock(tmp_path / "new" / "folder"):
        (tmp_path / "new" / "a").touch()
    assert list((tmp_path / "new").iterdir()) == [tmp_path / "new" / "a"]


def test_a_folder_that_is_removed_just_before_it_is_locked_is_made_again(tmp_path, monkeypatch):
    folder, real = tmp_path / "new", os.open

    def remove_first(path, *arguments):
        monkeypatch.setattr(os, "open", real)
        folder.rmdir()
        return real(path, *arguments)

    monkeypatch.setattr(os, "open", remove_first)
    with folder_lock(folder), pytest.raises(RuntimeError, match="in use"):
        folder_lock(folder).__enter__()
    assert not folder.exists()


def test_a_lock_needs_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("kept")
    for wrong, text in (
        ("", "empty name"),
        ("file", "'file' is not a folder"),
        ("file/new", "file/new"),
    ):
        with pytest.raises((ValueError, NotADirectoryError), match=text):
            folder_lock(wrong).__enter__()
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    with folder_lock("new") as folder:
        assert folder == Path("new")
        assert folder.is_dir()


def test_a_folder_is_locked_against_other_processes_as_long_as_they_live(tmp_path):
    with other_process(HOLDER, tmp_path) as holder:
        with pytest.raises(RuntimeError, match="in use"):
            folder_lock(tmp_path).__enter__()
        holder.kill()
        holder.wait()
        with folder_lock(tmp_path):
            pass
    with other_process(HOLDER, tmp_path) as holder:
        holder.stdin.write("\n")
        holder.stdin.flush()
        assert holder.stdout.readline() == "done\n"
        with folder_lock(tmp_path):
            pass


def test_a_lock_ends_although_a_forked_child_still_has_its_file_open(tmp_path):
    read_end, write_end = os.pipe()
    with folder_lock(tmp_path):
        child = os.fork()
        if not child:
            os.close(write_end)
            os.read(read_end, 1)  # until the parent closes its end
            os._exit(0)
    with folder_lock(tmp_path):
        pass
    os.close(write_end)
    os.waitpid(child, 0)
    os.close(read_end)


def test_a_lock_whose_file_was_just_removed_is_taken_on_the_new_file(tmp_path, monkeypatch):
    real = _files._lock

    def lock(number, **arguments):
        monkeypatch.setattr(_files, "_lock", real)
        (tmp_path / _files._LOCK_NAME).unlink()
        real(number, **arguments)

    monkeypatch.setattr(_files, "_lock", lock)
    with folder_lock(tmp_path), pytest.raises(RuntimeError, match="in use"):
        folder_lock(tmp_path).__enter__()


def test_what_was_written_checked_is_read_back(tmp_path):
    for content in (b"", b"x", bytes(range(256)) * 10_000):
        write_checked(tmp_path / "a", lambda file, content=content: file.write(content))
        assert read_checked(tmp_path / "a").read() == content


def test_writers_that_seek_are_checked_too(tmp_path):
    def save(file):
        np.savez(file, x=np.arange(5))
        file.seek(0)

    write_checked(tmp_path / "a.npz", save)
    for source in (read_checked(tmp_path / "a.npz"), tmp_path / "a.npz"):
        np.testing.assert_array_equal(np.load(source)["x"], np.arange(5))


def test_any_change_is_refused(tmp_path):
    path = tmp_path / "a"
    write_checked(path, lambda file: file.write(b"some content"))
    whole = path.read_bytes()
    damaged = [whole[:n] for n in range(len(whole))] + [whole + b"\0", b"0" + whole]
    for i in range(len(whole)):
        damaged += [whole[:i] + bytes([whole[i] ^ bit]) + whole[i + 1 :] for bit in (1, 128)]
    for content in damaged:
        path.write_bytes(content)
        with pytest.raises(ValueError, match="damaged") as caught:
            read_checked(path)
        assert str(path) in str(caught.value)


def test_only_regular_files_are_opened(tmp_path):
    (tmp_path / "a").write_bytes(b"content")
    (tmp_path / "link").symlink_to("a")
    for name in ("a", "link"):
        with open_regular(tmp_path / name) as file:
            assert file.read() == b"content"
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "circle").symlink_to("circle")
    (tmp_path / "device").symlink_to("/dev/zero")
    for name in ("pipe", "folder", "circle", "device", "missing"):
        with pytest.raises(OSError, match=name):
            open_regular(tmp_path / name)


def test_a_pipe_that_comes_at_the_last_moment_does_not_hang(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "a").touch()
    status = os.stat(tmp_path / "a")
    monkeypatch.setattr(os, "stat", lambda path: status)
    with pytest.raises(OSError, match="named pipe"):
        open_regular(tmp_path / "pipe")


@pytest.mark.parametrize("fallback", [False, True])
def test_reserved_room_is_zeros_of_the_size(tmp_path, monkeypatch, fallback):
    if fallback:
        monkeypatch.delattr(os, "posix_fallocate")
    size = 2_500_000
    with open(tmp_path / "a", "w+b") as file:
        reserve(file, size)
        assert os.fstat(file.fileno()).st_size == size
        assert os.fstat(file.fileno()).st_blocks * 512 >= size
        assert file.read() == bytes(size)
    with open(tmp_path / "b", "w+b") as file:
        reserve(file, 0)
        assert os.fstat(file.fileno()).st_size == 0


@pytest.mark.parametrize("fallback", [False, True])
def test_no_room_is_an_error_that_names_the_file(tmp_path, monkeypatch, fallback):
    resource = pytest.importorskip("resource")
    if fallback:

        def unsupported(*args):
            raise OSError(errno.EOPNOTSUPP, "not supported")

        monkeypatch.setattr(os, "posix_fallocate", unsupported)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with open(tmp_path / "vectors", "w+b") as file:
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, limits[1]))
            with pytest.raises(OSError, match=r"no room for a file of 4 MiB .*vectors"):
                reserve(file, 4 << 20)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_the_module_needs_neither_numpy_nor_torch():
    code = "import sys, skhash._files; assert not {'numpy', 'torch'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
