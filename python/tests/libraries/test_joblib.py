"""What joblib's own tests don't say of a backend: where large arrays go, who is kept, and who hears of a failure."""

import os
import subprocess
import sys
import threading
import time

import pytest

joblib = pytest.importorskip("joblib", reason="joblib is not installed")
np = pytest.importorskip("numpy", reason="numpy is not installed")

from joblib import Parallel, delayed, parallel_config

import procpool
from procpool import _joblib
from procpool._joblib_batches import BatchPickler

procpool.register_joblib()


def run(*tasks, **settings):
    return Parallel(n_jobs=2, backend="procpool", **settings)(tasks)


def describe(array):
    return type(array).__name__, float(array.sum()), array.flags.writeable


def test_large_arrays_are_mapped_and_their_files_end(tmp_path):
    array = np.ones(200_000)
    assert run(*[delayed(describe)(array)] * 3, temp_folder=str(tmp_path)) == [("memmap", 200_000.0, False)] * 3
    assert run(delayed(describe)(array), max_nbytes=None, temp_folder=str(tmp_path)) == [("ndarray", 200_000.0, True)]
    assert run(delayed(describe)(array), mmap_mode="c", temp_folder=str(tmp_path)) == [("memmap", 200_000.0, True)]
    assert list(tmp_path.iterdir()) == []


def test_files_end_when_a_task_fails(tmp_path):
    with pytest.raises(ZeroDivisionError):
        run(delayed(lambda array: array.size / 0)(np.ones(200_000)), temp_folder=str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_mapped_array_comes_back_as_an_array_of_its_own(tmp_path):
    [echo, view] = run(*[delayed(lambda array, step: array[::step])(np.arange(200_000), step) for step in (1, 7)])
    assert (type(echo), type(view)) == (np.ndarray, np.ndarray)
    np.testing.assert_array_equal(echo, np.arange(200_000))
    np.testing.assert_array_equal(view, np.arange(200_000)[::7])
    # An array of a file of the user's stays that: it is not read.
    own = np.memmap(tmp_path / "own", dtype=np.int64, mode="w+", shape=1000)
    own[:] = 7
    [returned] = run(delayed(lambda array: array)(own))
    assert isinstance(returned, np.memmap)
    assert returned.filename == own.filename


def test_an_array_is_pickled_once():
    array = np.zeros(8 << 20, dtype=np.uint8)
    sizes = []

    class Noted(np.ndarray):
        def __reduce_ex__(self, protocol):
            sizes.append(self.nbytes)
            return super().__reduce_ex__(protocol)

    pickled = BatchPickler(None, "r", None, 0).dumps(delayed(describe)(array.view(Noted)))
    assert sizes == [array.nbytes]
    assert array.nbytes < len(pickled) < array.nbytes + 10_000
    mapped = BatchPickler(1_000_000, "r", None, 0)
    assert len(mapped.dumps(delayed(describe)(array))) < 10_000
    mapped.close()


def test_64_mib_not_mapped():
    array = np.ones(8 << 20)
    [returned] = run(delayed(lambda array: array + 1)(array), max_nbytes=None)
    assert returned.nbytes == 64 << 20
    assert returned[0] == returned[-1] == 2
    # It is the caller's to change.
    returned[0] = 3


def test_the_next_call_has_the_same_workers(monkeypatch):
    def pids(**settings):
        return set(run(*[delayed(os.getpid)() for _ in range(20)], **settings))

    _joblib._idle.end()
    first = pids()
    assert len(first | pids()) <= 2
    # Workers are as this process was when they were started, so others begin after a change.
    monkeypatch.setenv("SOMETHING", "else")
    second = pids()
    assert not first & second
    assert run(delayed(os.getenv)("SOMETHING")) == ["else"]
    assert not second & pids(initializer=abs, initargs=(-1,))
    kept = _joblib._idle._kept[1]
    _joblib._idle.end()
    assert not kept.is_alive()


def test_a_kept_pool_ends_when_it_is_idle_for_long(monkeypatch):
    monkeypatch.setattr("procpool._idle_pool.IDLE_SECONDS", 0.05)
    assert run(delayed(abs)(-1)) == [1]
    timer = _joblib._idle._timer
    if timer is not None:
        timer.join(30)
    assert _joblib._idle._kept is None


def test_a_dead_worker_fails_the_call_and_the_next_one_is_well():
    with pytest.raises(procpool.WorkerCrashedError, match="killed by signal 9"):
        run(delayed(lambda: os.kill(os.getpid(), 9))())
    assert run(delayed(abs)(-1)) == [1]


def test_what_cannot_be_sent_ends_the_call_also_when_it_is_late():
    # Later batches are sent by the thread that calls back: an exception there would leave the caller waiting.
    with pytest.raises(Exception, match="Could not pickle the task"):
        run(*[delayed(abs)(number) for number in range(50)], delayed(abs)(threading.Lock()), batch_size=1)


def test_results_come_as_they_finish(tmp_path):
    def wait_for(path):
        while path is not None and not path.exists():
            time.sleep(0.01)
        return path is None

    gate = tmp_path / "gate"
    results = run(delayed(wait_for)(gate), delayed(wait_for)(None), return_as="generator_unordered")
    assert next(results) is True
    gate.touch()
    assert list(results) == [False]
    ordered = run(*[delayed(divmod)(n, 3) for n in range(20)], return_as="generator")
    assert [next(ordered) for _ in range(20)] == [divmod(n, 3) for n in range(20)]


def test_a_call_within_a_call():
    def nested(backend):
        return Parallel(n_jobs=2, backend=backend)(delayed(pow)(n, 2) for n in range(4))

    # The default within a call is threads.
    for backend in (None, "procpool"):
        assert run(delayed(nested)(backend), delayed(nested)(backend)) == [[0, 1, 4, 9]] * 2


def test_a_server_that_runs_already():
    with procpool.Pool(3) as pool:
        address = pool._server.address
        with parallel_config("procpool", n_jobs=-1, address=address):
            assert joblib.effective_n_jobs(-1) == 3
            assert Parallel()(delayed(describe)(np.ones(200_000)) for _ in range(4)) == [("memmap", 200_000.0, False)] * 4
        # It is somebody else's, and goes on.
        assert pool.apply(abs, (-1,)) == 1


FORKING = """
import os
import joblib
import procpool

procpool.register_joblib()

def call():
    return set(joblib.Parallel(n_jobs=2, backend="procpool")(joblib.delayed(os.getpid)() for _ in range(8)))

first = call()
child = os.fork()
if child == 0:
    # It has workers of its own.
    os._exit(0 if not call() & first else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), len(first | call()) <= 2)
"""


def test_a_forked_process_has_workers_of_its_own():
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-W", "error", "-W", "ignore::DeprecationWarning", "-c", FORKING]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    assert (done.stdout, done.stderr) == ("0 True\n", "")
