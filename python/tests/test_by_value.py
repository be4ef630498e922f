"""Functions that come with the call, as pickles, to a worker that may take them."""

import functools
import operator
import pickle
import signal

import cloudpickle
import pytest
import worker_pb2
from fake_server import BLOBS, FUNCTIONS, STAR, FakeServer
from test_cancel import cancel
from test_common import drop_common, send_common

TYPE = "application/x-python-pickle"
ALLOWED = {"PROCPOOL_ALLOW_PICKLE": "1"}
INVALID = worker_pb2.FAILURE_KIND_INVALID_ITEM


@pytest.fixture(scope="module")
def server():
    with FakeServer(None, env=ALLOWED) as server:
        yield server.until_ready()


def start(server, function, items, how="map"):
    name = send_common(server, cloudpickle.dumps(function), kind=BLOBS, content_type=TYPE)
    run = server.start_run(
        f"procpool:{how}", [cloudpickle.dumps(item) for item in items], kind=BLOBS, content_type=TYPE, common=name
    )
    drop_common(server, name)
    return run


def outcome(server, function, items, how="map"):
    return server.finish(start(server, function, items, how))


def results(server, function, items, how="map"):
    answers = outcome(server, function, items, how)
    assert not answers.failures, answers.failures
    return [pickle.loads(answer) for answer in answers.items]


def test_a_worker_that_may_has_three_functions_and_needs_no_module(server):
    names = [function.name for function in server.hello.functions]
    assert names == ["procpool:apply", "procpool:map", "procpool:starmap"]
    with FakeServer(FUNCTIONS, env=ALLOWED) as both:
        named = {function.name for function in both.until_ready().hello.functions}
        assert {"procpool:map", "echo"} <= named
        assert both.values("echo", [1]) == [1]
        assert results(both, lambda item: item + 1, [1]) == [2]


def test_a_worker_that_may_not_has_none_and_needs_a_module(shared_server):
    assert not any(function.name.startswith("procpool:") for function in shared_server.hello.functions)
    with FakeServer(None, env={"PROCPOOL_ALLOW_PICKLE": "0"}) as server:
        assert server.wait_for_exit() == 2
        assert "MODULE_OR_FILE" in server.error_output()
    with FakeServer(None, "--init", "f", env=ALLOWED) as server:
        assert server.wait_for_exit() == 2
        assert "--init and --check need the module" in server.error_output()


@pytest.mark.parametrize(
    ("function", "items"),
    [
        (abs, [1, -2.5, -0.0]),
        (lambda item: (item, {item: [item]}), ["a", (1, 2), None, b"x", 10**30]),
        (functools.partial(pow, 2), [3, 4]),
        (operator.methodcaller("upper"), ["a"]),
        ([10, 20].__getitem__, [0, 1]),
    ],
)
def test_map_calls_with_the_item(server, function, items):
    assert list(map(repr, results(server, function, items))) == [repr(function(item)) for item in items]


def test_starmap_and_apply_call_with_arguments(server):
    assert results(server, pow, [(2, 3), (2, 5, 7)], "starmap") == [8, 4]
    assert results(server, lambda *args, **kwargs: (args, kwargs), [((1,), {"b": 2}), ((), {})], "apply") == [
        ((1,), {"b": 2}),
        ((), {}),
    ]
    assert results(server, pow, [[2, 3], iter([2, 4])], "starmap") == [8, 16]
    failure = outcome(server, pow, [3], "starmap").failures[0]
    assert (failure.type, failure.message) == ("TypeError", "'int' object is not iterable")
    failure = outcome(server, pow, [3], "apply").failures[0]
    assert failure.kind == INVALID
    assert "must be a tuple" in failure.message


def test_what_the_function_raises_is_its_error(server):
    def fail(item):
        raise LookupError(f"no {item}")

    failure = outcome(server, fail, [1, 2]).failures[1]
    assert (failure.kind, failure.type, failure.message) == (worker_pb2.FAILURE_KIND_RAISED, "LookupError", "no 2")
    assert "in fail" in failure.traceback
    assert "/procpool/" not in failure.traceback


class Unloadable:
    """Can be pickled, and not unpickled."""

    def __init__(self, how):
        self.how = how

    def __reduce__(self):
        return eval, (self.how,)


@pytest.mark.parametrize(
    ("how", "line"),
    [("1/0", "ZeroDivisionError: division by zero"), ("__import__('nowhere')", "No module named 'nowhere'"), ("exit()", "SystemExit")],
)
def test_what_cannot_be_unpickled_fails_the_item_and_never_the_worker(server, how, line):
    failure = outcome(server, Unloadable(how), [1]).failures[0]
    assert (failure.kind, failure.type) == (worker_pb2.FAILURE_KIND_RAISED, "")
    assert "Traceback" in failure.traceback
    assert failure.message.startswith("the function can't be unpickled: ")
    assert line in failure.message
    answers = outcome(server, abs, [-1, Unloadable(how), -2])
    assert list(answers.failures) == [1]
    assert answers.failures[1].kind == worker_pb2.FAILURE_KIND_RAISED
    assert answers.failures[1].message.startswith("the item can't be unpickled: ")
    assert pickle.loads(answers.items[2]) == 2


@pytest.mark.parametrize("rubbish", [b"", b"rubbish", pickle.dumps(abs)[:-3]])
def test_rubbish_is_no_pickle(server, rubbish):
    name = send_common(server, rubbish, kind=BLOBS, content_type=TYPE)
    answers = server.run("procpool:map", [pickle.dumps(1)] * 2, kind=BLOBS, content_type=TYPE, common=name)
    assert all("the function can't be unpickled" in failure.message for failure in answers.failures.values())
    assert len(answers.failures) == 2
    name = send_common(server, pickle.dumps(abs), kind=BLOBS, content_type=TYPE)
    answers = server.run("procpool:map", [rubbish, pickle.dumps(-1)], kind=BLOBS, content_type=TYPE, common=name)
    assert list(answers.failures) == [0]


def test_a_result_that_cannot_be_pickled_fails_its_item(server):
    answers = outcome(server, lambda item: (i for i in range(item)) if item else item, [0, 1, 0])
    failure = answers.failures[1]
    assert failure.type == "multiprocessing.pool.MaybeEncodingError"
    assert failure.message.startswith("Error sending result: '<generator object")
    assert "Reason: 'TypeError(" in failure.message
    assert list(answers.failures) == [1]


def test_a_result_that_is_too_large_fails_its_item():
    with FakeServer(None, env=ALLOWED, max_frame_bytes=100_000) as server:
        answers = outcome(server.until_ready(), lambda item: b"x" * item, [1, 200_000, 2])
        assert list(answers.failures) == [1]
        assert answers.failures[1].kind == worker_pb2.FAILURE_KIND_NOT_ENCODABLE


def test_a_function_is_decoded_once_and_kept_for_later_calls(server):
    calls = []

    def count(item):
        calls.append(item)
        return len(calls)

    pickled = cloudpickle.dumps(count)

    def call(function, items):
        name = send_common(server, function, kind=BLOBS, content_type=TYPE)
        run = server.run("procpool:map", list(map(pickle.dumps, items)), kind=BLOBS, content_type=TYPE, common=name)
        drop_common(server, name)
        return [pickle.loads(item) for item in run.items]

    assert call(pickled, [0, 0]) == [1, 2]
    assert call(pickled, [0]) == [3]
    for number in range(40):
        assert call(cloudpickle.dumps(functools.partial(operator.add, number)), [1]) == [number + 1]
    assert call(pickled, [0]) == [1], "the functions that are kept are bounded in number"


@pytest.mark.parametrize(
    "fields", [{}, {"kind": BLOBS}, {"kind": BLOBS, "style": STAR}, {"kind": BLOBS, "content_type": "application/json"}]
)
def test_other_calls_of_it_are_invalid(server, fields):
    answers = server.run("procpool:map", [b"1" if fields else 1], **fields)
    assert answers.failures[0].kind == INVALID
    assert "in common" in answers.failures[0].message


def test_it_is_cancelled_like_any_other(server):
    def wait(mark):
        import pathlib
        import time

        pathlib.Path(mark).touch()
        time.sleep(3600)

    run = start(server, wait, [str(server.mark("by_value.began"))])
    server.wait_for_mark("by_value.began")
    cancel(server, run)
    server.expect("recalled")
    assert server.finish(run).failures[0].type == "procpool.Cancelled"


class Slow:
    """Is slow to unpickle."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return eval, (f"(open({self.mark!r}, 'w').close(), __import__('time').sleep(3600))",)


@pytest.mark.parametrize("is_function", [True, False])
def test_it_is_cancelled_while_it_is_unpickled(server, is_function):
    mark = f"unpickles.{is_function}"
    slow = Slow(str(server.mark(mark)))
    run = start(server, slow, [1]) if is_function else start(server, abs, [slow])
    server.wait_for_mark(mark)
    cancel(server, run)
    server.expect("recalled")
    assert server.finish(run).failures[0].type == "procpool.Cancelled"
    assert results(server, abs, [-1]) == [1]


def test_a_forked_copy_that_comes_back_answers_nothing(server):
    def fork(item):
        import os

        pid = os.fork()
        return os.waitpid(pid, 0)[1] >> 8 if pid else "child"

    assert results(server, fork, range(20)) == [1] * 20


def test_a_pickle_that_kills_the_worker_kills_it_in_that_item():
    with FakeServer(None, env=ALLOWED) as server:
        server.until_ready()
        run = start(server, abs, [-1, Unloadable("__import__('os').kill(__import__('os').getpid(), 9)"), -2])
        assert server.wait_for_exit() == -signal.SIGKILL
        assert server.word(0) == run.first_sequence + 1
