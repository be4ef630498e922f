"""A pool goes on whatever a function, a callback, a pickle or an iterable does."""

import os
import pickle
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
from pool import functions

import procpool
from procpool.errors import exception_of_item

PATIENCE = 60
HERE = Path(__file__).parent


def run(script: str, **variables: str) -> subprocess.CompletedProcess:
    """Runs a program to its end."""
    path = os.pathsep.join([str(HERE.parent), *filter(None, sys.path)])
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        env={**os.environ, "PYTHONPATH": path, **variables},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )


def exit_with(code):
    raise SystemExit(code)


class ExitsWhenUnpickled(Exception):
    def __reduce__(self):
        return exit_with, (7,)


def raise_it(_):
    raise ExitsWhenUnpickled


def return_it(_):
    return ExitsWhenUnpickled()


@pytest.mark.parametrize(("function", "expected"), [(raise_it, procpool.RemoteError), (return_it, SystemExit)])
def test_a_pickle_that_raises_system_exit_is_called_back(pool, function, expected):
    errors = []
    result = pool.apply_async(function, (1,), error_callback=errors.append)
    result.wait(PATIENCE)
    assert [type(error) for error in errors] == [expected]
    with pytest.raises(expected):
        result.get(PATIENCE)
    assert pool.apply_async(abs, (-1,), callback=errors.append).get(PATIENCE) == 1


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_callback_that_exits_ends_itself_only(pool):
    assert pool.apply_async(abs, (-1,), callback=exit_with).get(PATIENCE) == 1
    assert pool.apply_async(abs, (-2,), callback=lambda _: None).get(PATIENCE) == 2


def test_a_callback_cannot_join_its_pool():
    caught = []

    def join(_):
        pool.close()
        try:
            pool.join()
        except RuntimeError as error:
            caught.append(error)

    pool = procpool.Pool(1)
    pool.apply_async(abs, (-1,), callback=join).get(PATIENCE)
    assert len(caught) == 1
    pool.join()


def test_a_server_with_open_calls_stops_at_once(monkeypatch):
    monkeypatch.setattr("procpool._private_server._STOP_PATIENCE_SECONDS", PATIENCE)
    pool = procpool.Pool(1)
    results = pool.imap(functions.sleep, [0, 2 * PATIENCE])
    next(results)
    pool._server.stop()
    # Otherwise it would wait for the item until it is killed.
    assert pool._server._process.returncode != -signal.SIGKILL
    with pytest.raises(procpool.CallError):
        next(results)
    pool.terminate()


def test_a_dropped_iterator_over_a_blocked_input_is_cancelled():
    unblock, blocked = threading.Event(), threading.Event()

    def items():
        yield 1
        blocked.set()
        unblock.wait(PATIENCE)

    pool = procpool.Pool(1)
    iterator = pool.imap(abs, items())
    assert next(iterator) == 1
    assert blocked.wait(PATIENCE)
    stream = iterator._stream
    del iterator
    with pytest.raises(Exception, match="cancelled"):
        stream.next(PATIENCE)
    unblock.set()
    pool.terminate()


def test_an_error_of_an_iterator_has_no_context(pool):
    def items():
        yield 1
        raise KeyError(2)

    with pytest.raises(KeyError) as caught:
        list(pool.imap(abs, items()))
    assert caught.value.__context__ is None


def test_a_killed_server_is_named_after_close_too():
    pool = procpool.Pool(1)
    result = pool.map_async(functions.sleep, [PATIENCE])
    pool.close()
    os.kill(pool._server.pid, 9)
    with pytest.raises(procpool.CallError, match="exit code -9"):
        result.get(PATIENCE)
    pool.join()


def test_a_worker_may_spawn_processes(pool):
    assert pool.apply(functions.spawn) == [1, 2]


def test_a_folder_with_a_long_path(tmp_path):
    folder = tmp_path / ("x" * 120)
    folder.mkdir()
    result = run("import procpool; print(procpool.Pool(1).map(abs, [-1]))", TMPDIR=str(folder))
    assert result.stdout == "[1]\n", result.stderr
    assert list(folder.iterdir()) == []


def test_large_items_and_results(pool):
    item = bytes(100 * 2**20)
    assert pool.map(len, [item, item]) == [len(item)] * 2
    assert len(pool.apply(bytes, (len(item),))) == len(item)


def test_what_is_no_address_is_a_value_error():
    with pytest.raises(ValueError, match="the port is missing"):
        procpool.Pool("nonsense")


def test_a_fork_does_not_wait_for_a_callback():
    result = run(
        """
        import os, time
        from pool import functions
        import procpool

        pool = procpool.Pool(1)
        call = pool.map_async(functions.sleep, [60], callback=print)
        child = os.fork()
        if child == 0:
            try:
                call.get()
            except RuntimeError:
                os._exit(3)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
        """
    )
    assert result.returncode == 0, result.stderr


def test_ctrl_c_while_a_pool_starts_leaves_nothing(tmp_path):
    # The server does not come to its first line.
    program = tmp_path / "program"
    program.write_text('#!/bin/sh\nkill -INT "$PPID"\nexec sleep 60\n')
    program.chmod(0o755)
    result = run(
        """
        import procpool, subprocess

        started = []
        class Popen(subprocess.Popen):
            def __init__(self, *args, **kwargs):
                started.append(self)
                super().__init__(*args, **kwargs)

        subprocess.Popen = Popen
        try:
            procpool.Pool(1)
        except KeyboardInterrupt:
            print(started[0].returncode)
        """,
        PROCPOOL_PROGRAM=str(program),
        TMPDIR=str(tmp_path),
    )
    assert result.stdout == "-15\n", result.stderr
    assert list(tmp_path.glob("procpool-*")) == []


def test_a_program_without_standard_streams(tmp_path):
    script = f"""
        import os
        os.closerange(0, 3)
        import procpool
        results = procpool.Pool(1).map(abs, [-1])
        open({str(tmp_path / "results")!r}, "w").write(str(results))
        """
    assert run(script).returncode == 0
    assert (tmp_path / "results").read_text() == "[1]"


def test_a_call_that_was_interrupted_while_it_began_stops_no_callback():
    with procpool.Pool(1) as pool:

        def begin(queue, token):
            pool._client.start(items=[1], queue=queue, token=token, **pool._target(functions.square, "map"))
            # Ctrl-C.
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            pool._calls.start(begin)
        called = []
        pool.apply_async(abs, (-1,), callback=called.append).get(PATIENCE)
        assert called == [1]


def test_a_fork_does_not_take_the_server_for_dead():
    with procpool.Pool(1) as pool:
        child = os.fork()
        if child == 0:
            os._exit(0 if pool.is_alive() else 1)
        assert os.waitpid(child, 0)[1] == 0


def test_settings_in_the_environment_are_not_those_of_a_private_server(monkeypatch):
    monkeypatch.setenv("PROCPOOL_CONFIG", "/nowhere")
    monkeypatch.setenv("PROCPOOL_ITEM_TIMEOUT", "1ms")
    with procpool.Pool(1) as pool:
        assert pool.apply(functions.sleep, (0.1,)) == 0.1


def test_a_pickle_from_a_server_that_need_not_be_trusted_is_not_read():
    failure = SimpleNamespace(
        kind="raised", type="Bomb", message="boom", traceback="", index=3, attempt=1, data=pickle.dumps(LookupError("no"))
    )
    assert type(exception_of_item(failure, is_by_value=True)) is LookupError
    error = exception_of_item(failure, is_by_value=False)
    assert (type(error), str(error), error.index) == (procpool.RemoteError, "Bomb: boom", 3)


def test_an_initializer_that_cannot_be_pickled_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(TypeError, match="pickle"):
        procpool.Pool(1, print, (threading.Lock(),))
    assert list(tmp_path.iterdir()) == []
