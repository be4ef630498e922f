"""What a worker says about its functions, and how it calls them."""

import json

import pytest
import worker_pb2
from fake_server import APPLY, BLOBS, FUNCTIONS, SOURCE, STAR, FakeServer


def test_hello_describes_the_public_functions(shared_server):
    hello = shared_server.hello
    functions = {function.name: function for function in hello.functions}

    assert hello.protocol_version == 1
    assert hello.sdk.startswith("procpool-python/")
    assert hello.pid == shared_server.process.pid
    assert hello.uses_progress_page
    assert list(functions) == sorted(functions)
    assert {"add", "echo", "async_double", "nan_as_null"} <= set(functions)
    for hidden in ("_private", "NotExposed", "Point", "join", "pi", "_nan_as_null", "procpool"):
        assert hidden not in functions
    add = functions["add"]
    assert add.signature == "(first: int, second: int = 10, *, scale: float = 1) -> float"
    assert add.doc == "Add two numbers.\n\nThe second paragraph stays."
    assert not add.idempotent
    assert functions["nan_as_null"].idempotent
    assert json.loads(functions["nan_as_null"].example) == {"function": "nan_as_null", "values": [0.5]}
    for function in functions.values():
        assert not function.example or json.loads(function.example)["function"] == function.name


def test_examples_can_be_run():
    with FakeServer(SOURCE.parent / "examples" / "matches.py") as server:
        server.until_ready()
        examples = {function.name: json.loads(function.example) for function in server.hello.functions}
        assert examples["power"]["values"] == [[0.5, 0.5], [1.5, 1.5]]
        assert server.values("analyze_match", [1]) == ["Result for Match #1: Analysis Clear"]
        assert server.values("power", [[2, 10], [3, 3]], style=STAR) == [1024, 27]
        assert server.values("is_prime", examples["is_prime"]["values"]) == [True, True]
        assert server.values("is_prime", list(range(-1, 10))) == [n in (2, 3, 5, 7) for n in range(-1, 10)]
        failure = server.run("square_root", [4, -4]).failures[1]
        assert (failure.type, failure.message) == ("ValueError", "-4 has no real square root")
        assert server.output() == "Analyzing match #1\n"


def test_map_passes_the_item(shared_server):
    assert shared_server.values("add", [1, 2.5]) == [11, 12.5]


def test_star_passes_the_arguments(shared_server):
    assert shared_server.values("add", [[1, 2], [3], [0.5, 0]], style=STAR) == [3, 13, 0.5]


def test_star_items_that_are_no_lists_are_invalid_one_by_one(shared_server):
    outcome = shared_server.run("add", [[1, 2], "ab", 3, {"a": 1}, [4, 5], None], style=STAR)
    assert outcome.items == [3, None, None, None, 9, None]
    assert list(outcome.failures) == [1, 2, 3, 5]
    for failure in outcome.failures.values():
        assert failure.kind == worker_pb2.FAILURE_KIND_INVALID_ITEM
        assert failure.message.startswith("the item must be a list, the arguments of one call, and is ")


def test_apply_passes_positional_and_keyword_arguments(shared_server):
    assert shared_server.apply("add", 1, 2, scale=2).items == [6]
    assert shared_server.apply("joined", "a", "b", c="d", e="f").items == ["a,b,c=d,e=f"]
    assert shared_server.apply("joined").items == [""]


def test_apply_with_blobs(shared_server):
    run = shared_server.start_apply("blob_repeat", [b"ab"], {}, kind=BLOBS)
    assert shared_server.finish(run).items == [b"ab" * 1000]
    run = shared_server.start_apply("add", [b"1", b"2"], {"scale": 3}, kind=BLOBS, content_type="application/json")
    assert shared_server.finish(run).items == [b"9"]


def test_a_wrong_number_of_arguments_is_the_functions_error(shared_server):
    failure = shared_server.failure("add", [1, 2, 3], style=STAR)
    assert failure.kind == worker_pb2.FAILURE_KIND_RAISED
    assert failure.type == "TypeError"
    assert failure.message == "add() takes from 1 to 2 positional arguments but 3 were given"
    assert failure.traceback.splitlines() == [f"TypeError: {failure.message}"]


@pytest.mark.parametrize(
    ("field", "part"), [("args", worker_pb2.CALL_PART_UNSPECIFIED), ("kwargs", worker_pb2.CALL_PART_KWARGS)]
)
def test_undecodable_arguments_are_an_invalid_item(shared_server, field, part):
    arguments = worker_pb2.ApplyArguments(**{field: b"\x0a\x05junk"}).SerializeToString()
    outcome = shared_server.run("add", [None], style=APPLY, encoded=b"\n" + bytes([len(arguments)]) + arguments)
    assert outcome.failures[0].kind == worker_pb2.FAILURE_KIND_INVALID_ITEM
    assert outcome.failures[0].part == part


def test_an_undecodable_value_is_an_invalid_item(shared_server):
    encoded = b"\n\x02\x20\x01" + b"\n\x03\x1a\x01\xff" + b"\n\x02\x20\x00"
    outcome = shared_server.run("echo", [None] * 3, encoded=encoded)
    assert outcome.items == [True, None, False]
    assert outcome.failures[1].kind == worker_pb2.FAILURE_KIND_INVALID_ITEM
    assert outcome.failures[1].message == "the item can't be decoded: a text is not UTF-8"


def test_an_unknown_function_fails_every_item(shared_server):
    outcome = shared_server.run("nothing", [0] * 2500)
    assert list(outcome.failures) == list(range(2500))
    assert {failure.kind for failure in outcome.failures.values()} == {worker_pb2.FAILURE_KIND_UNKNOWN_FUNCTION}
    assert shared_server.values("echo", [1]) == [1]


def test_async_functions_run_to_their_end(shared_server):
    assert shared_server.values("async_double", [1, 2]) == [2, 4]


def test_blobs_are_bytes(shared_server):
    blobs = [b"", b"a", bytes(range(256)), b"x" * 200_000]
    assert shared_server.values("echo", blobs, kind=BLOBS) == blobs
    assert shared_server.values("as_bytearray", blobs, kind=BLOBS) == blobs
    assert shared_server.values("echo", blobs, kind=BLOBS, content_type="image/png") == blobs
    failure = shared_server.failure("as_text", b"x", kind=BLOBS)
    assert failure.kind == worker_pb2.FAILURE_KIND_NOT_ENCODABLE
    assert failure.message.startswith("result: str is not bytes")


def test_json_blobs_are_decoded_and_encoded(shared_server):
    def run(function, items):
        return shared_server.run(function, items, kind=BLOBS, content_type="application/json")

    outcome = run("echo", [b" 1", b'{"a":[null,true,"\\u00e4"]}', b"{", b"NaN", b"9007199254740993", b"[" * 100_000])
    assert outcome.items == [b"1", '{"a":[null,true,"ä"]}'.encode(), b"", b"", b"9007199254740993", b""]
    assert {offset: failure.kind for offset, failure in outcome.failures.items()} == dict.fromkeys(
        (2, 3, 5), worker_pb2.FAILURE_KIND_INVALID_ITEM
    )
    names = [b'"inf in list"', b'"set"', b'"cyclic"', b'"surrogate"', b'"point"', b'"date"', b'"object"']
    outcome = run("produce", names)
    assert list(outcome.failures) == [0, 1, 2, 3, 6]
    assert {failure.kind for failure in outcome.failures.values()} == {worker_pb2.FAILURE_KIND_NOT_ENCODABLE}
    assert outcome.items[4:6] == [b'{"x":1,"y":{"x":2,"y":["red",3]}}', b'"2026-01-02"']
    outcome = run("nan_as_null", [b'"nan"', b'"list"', b'"set"'])
    assert outcome.items[:2] == [b"null", b'[1,null,{"a":null}]']
    assert list(outcome.failures) == [2]
    assert shared_server.run(
        "add", [b"[1,2]", b"1"], kind=BLOBS, content_type="application/json", style=STAR
    ).items == [b"3", b""]


def test_functions_can_ask_what_runs(shared_server):
    run = shared_server.start_run(
        "show_current", [0, 0], chunk=77_777, attempt=2, first_index=500, traceparent="00-abc"
    )
    assert shared_server.finish(run).items == [
        [500, 2, 77_777, "show_current", "00-abc"],
        [501, 2, 77_777, "show_current", "00-abc"],
    ]
    assert shared_server.values("from_other_threads", [2]) == [[0, 0]]


def test_functions_by_module_name_and_all(tmp_path):
    (tmp_path / "chosen").mkdir()
    (tmp_path / "chosen" / "__init__.py").write_text("")
    (tmp_path / "chosen" / "few.py").write_text(
        "from math import sqrt\nfrom decimal import Decimal\nfrom fractions import Fraction\n"
        "__all__ = ['sqrt', 'Decimal', '_hidden', 'NUMBER']\nNUMBER = 3\n"
        "def _hidden(x): return x\ndef public(x): return x\n"
    )
    with FakeServer("chosen.few", env={"PYTHONPATH": f"{SOURCE}:{tmp_path}"}) as server:
        server.until_ready()
        assert [function.name for function in server.hello.functions] == ["Decimal", "_hidden", "sqrt"]
        assert server.values("sqrt", [4]) == [2]


def test_the_initializer_runs_once_and_is_not_exposed():
    with FakeServer(FUNCTIONS, "--init", "initialize") as server:
        hello = server.expect("hello")
        assert "initialize" not in {function.name for function in hello.functions}
        server.expect("ready")
        assert server.mark("initialized").exists()


@pytest.mark.parametrize(
    ("target", "options", "complaint"),
    [
        ("{tmp}/missing.py", (), "there is no file"),
        ("no_such_module", (), "ModuleNotFoundError: No module named 'no_such_module'"),
        ("{tmp}/raises.py", (), "ZeroDivisionError"),
        ("{tmp}/exits.py", (), "SystemExit"),
        ("{tmp}/empty.py", (), "has no public functions"),
        ("{tmp}/json.py", (), "rename the file"),
        ("{tmp}/twice.py", (), "two functions with the name 'same'"),
        ("{tmp}/badname.py", (), "can't be called"),
        ("{tmp}/all.py", (), "lists 'gone', which it does not have"),
        (str(FUNCTIONS), ("--init", "nothing"), "--init nothing"),
    ],
)
def test_what_cannot_be_loaded_ends_the_worker_before_hello(tmp_path, target, options, complaint):
    (tmp_path / "raises.py").write_text("1 / 0\n")
    (tmp_path / "exits.py").write_text("import sys; sys.exit(0)\n")
    (tmp_path / "empty.py").write_text("x = 1\nclass C: pass\ndef _f(): pass\n")
    (tmp_path / "json.py").write_text("def f(): pass\n")
    (tmp_path / "all.py").write_text("__all__ = ['gone']\n")
    (tmp_path / "twice.py").write_text(
        "import procpool\n@procpool.function(name='same')\ndef f(): pass\ndef same(): pass\n"
    )
    (tmp_path / "badname.py").write_text("import procpool\n@procpool.function(name='a\\nb')\ndef f(): pass\n")
    with FakeServer(target.format(tmp=tmp_path), *options) as server:
        assert server.receive() is None
        assert server.wait_for_exit() == 1
        assert complaint in server.error_output()


def test_an_initializer_that_fails_ends_the_worker_before_ready():
    with FakeServer(FUNCTIONS, "--init", "initialize_badly") as server:
        server.expect("hello")
        assert server.receive() is None
        assert server.wait_for_exit() == 1
        # The server tells callers the last line alone.
        assert server.error_output().splitlines()[-1] == "procpool.worker: the initialiser failed: RuntimeError: no database"
