"""What a process may do with a native client: Ctrl-C, forks, and its end. Each in a process of its own."""

import pytest
from native_server import run_python, serve

PRELUDE = """
import gc, itertools, os, random, signal, sys, threading, time
from procpool import _native
client = _native.Client(sys.argv[1])
"""


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    with serve(tmp_path_factory.mktemp("server")) as address:
        yield address


def check(address, script):
    result = run_python(PRELUDE + script, address)
    assert (result.returncode, result.stderr) == (0, ""), result.stdout + result.stderr
    return result.stdout


@pytest.mark.parametrize(
    "scenario",
    [
        "client.start('hang', [1], codec='pickle').wait()",
        "client.start('hang', [1, 2], codec='pickle').result()",
        "client.stream('hang', codec='pickle').next()",
        "stream = client.stream('hang', codec='pickle', window=3); [stream.send(1) for _ in range(9)]",
        "stream = client.stream('hang', codec='pickle', window=3); stream.send_many([1] * 9)",
        "stream = client.stream('hang', codec='pickle'); stream.finish(); _native.CompletionQueue().get(None)",
        "while True: client.start('echo', range(1000), codec='pickle').result()",
        "while True: client.list_functions()",
    ],
)
def test_ctrl_c_at_any_moment(address, scenario):
    script = f"""
def scenario():
    {scenario}
    raise AssertionError("it has ended")

slowest = 0
rng = random.Random(5)
for number in range(25):
    killed_at = None
    def kill():
        global killed_at
        killed_at = time.monotonic()
        os.kill(os.getpid(), signal.SIGINT)
    killer = threading.Timer(rng.random() * 0.03, kill)
    try:
        killer.start()
        scenario()
    except KeyboardInterrupt:
        slowest = max(slowest, time.monotonic() - killed_at)
    killer.join()
    gc.collect()
assert client.start("echo", [number], codec="pickle").result() == ([number], [])
print(slowest)
"""
    # Usually 0.1 s; a busy machine may take longer, and without a check of signals it would be for ever.
    assert float(check(address, script)) < 10


def test_forks_beside_calls(address):
    check(
        address,
        """
stop = threading.Event()
wrong = []
def call(number):
    while not stop.is_set():
        items = [number] * 10
        if client.start("echo", items, codec="pickle").result() != (items, []):
            wrong.append(number)
threads = [threading.Thread(target=call, args=(number,)) for number in range(3)]
[thread.start() for thread in threads]
queue = _native.CompletionQueue()
for number in range(200):
    call = client.start("wait_for_file", [None], codec="pickle", queue=queue, token=number)
    stream = client.stream("echo", codec="pickle")
    stream.send(number)
    pid = os.fork()
    if pid == 0:
        # A child that hangs is killed, and found below.
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(60)
        code = 1
        try:
            for use in (call.ready, call.wait, call.result, stream.room, stream.next, stream.finish, queue.get):
                try:
                    use()
                except RuntimeError as error:
                    assert "fork" in str(error), error
                else:
                    raise AssertionError(use)
            call.cancel(), stream.cancel(), queue.close()
            del call, stream, queue, use
            gc.collect()
            if number % 4 == 0:
                assert client.start("echo", [number], codec="pickle").result() == ([number], [])
                assert client.is_serving(60)
            if number % 4 == 1:
                client.close()
            client = None
            gc.collect()
            code = 0
        finally:
            if number % 2 == 0:
                os._exit(code)
        # The threads of the parent are not there to be joined.
        sys.exit(code)
    assert call.result() == ([None], [])
    stream.finish()
    assert [*stream.next(60)] == [number]
    assert queue.get(60) == number
    _, status = os.waitpid(pid, 0)
    assert status == 0, (number, status)
stop.set()
[thread.join() for thread in threads]
assert not wrong
""",
    )


def test_multiprocessing_children_use_the_same_client(address):
    check(
        address,
        """
import multiprocessing
def square(n):
    return client.start("square", [n], codec="pickle").result()[0][0]
assert square(3) == 9
with multiprocessing.get_context("fork").Pool(3) as pool:
    assert pool.map(square, range(50)) == [n ** 2 for n in range(50)]
assert square(4) == 16
""",
    )


@pytest.mark.parametrize("ending", ["", "sys.exit(0)", "os._exit(0)", "del calls, streams; gc.collect()"])
def test_a_process_may_end_with_calls_in_flight(address, ending):
    check(
        address,
        f"""
calls = [client.start("hang", [1, 2], codec="pickle") for _ in range(5)]
calls += [client.start("echo", range(1000), codec="pickle") for _ in range(20)]
streams = [client.stream("hang", codec="pickle", window=1) for _ in range(3)]
queue = _native.CompletionQueue()
def endless(stream):
    for n in itertools.count():
        stream.send(n)
targets = [calls[0].wait, calls[1].result, streams[0].next, queue.get, lambda: endless(streams[1])]
targets.append(lambda: [client.start("echo", [n], codec="pickle").result() for n in itertools.count()])
targets.append(lambda: [client.is_serving() for n in itertools.count()])
for target in targets:
    threading.Thread(target=target, daemon=True).start()
client.list_functions(60)
{ending}
""",
    )


def test_many_processes_end_while_calls_end(address):
    """The moment at which a daemon thread wants the interpreter back that is no more."""
    script = """
def call():
    while True:
        client.start("echo", [1], codec="pickle").result()
for _ in range(4):
    threading.Thread(target=call, daemon=True).start()
client.start("echo", [1], codec="pickle").result()
"""
    for _ in range(20):
        check(address, script)


def test_a_client_in_a_cycle_is_collected(address):
    check(
        address,
        """
class Holder:
    pass
for _ in range(50):
    holder = Holder()
    holder.itself, holder.call = holder, client.start("hang", [1], codec="pickle")
    del holder
    gc.collect()
assert client.start("echo", [1], codec="pickle").result() == ([1], [])
""",
    )
