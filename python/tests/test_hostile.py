"""One function whose object is odd does not take the others away: what cannot be told of it is left empty."""

import pytest
from fake_server import STAR, FakeServer

MODULE = '''
import functools
import procpool

class RaisesOnRepr:
    def __repr__(self): raise RuntimeError("no repr")

class ExitsOnRepr:
    def __repr__(self): raise SystemExit(3)

class RaisesOnEverything:
    """Such as a proxy of a request outside of a request."""
    def __getattribute__(self, name): raise RuntimeError(f"no {name} here")
    def __call__(self, item): return item

class OddDoc:
    @property
    def __doc__(self): raise RuntimeError("no doc")
    __module__ = __name__
    __wrapped__ = print
    def __call__(self, item): return item

class RaisesOnName:
    def __getattr__(self, name): raise RuntimeError("no name")

class AddsToTheModule:
    __module__ = __name__
    @property
    def __wrapped__(self): globals()["added"] = 1
    def __call__(self, item): return item

def good(item: int) -> int:
    """Return the item."""
    return item

def default(item, what=RaisesOnRepr()): return item
def exits(item, what=ExitsOnRepr()): return item
def annotated(item: RaisesOnRepr()): return item
def annotated_by_name(item: RaisesOnName()): return item

def odd_signature(item): return item
odd_signature.__signature__ = 5

def circular(item): return item
circular.__wrapped__ = circular

def odd_doc(item): return item
odd_doc.__doc__ = 5

def decorate(function):
    @functools.wraps(function)
    def wrapper(*args): return function(*args)
    wrapper.__doc__ = "\\ud800"
    return wrapper

@decorate
def decorated(item, what=RaisesOnRepr()): return item

@procpool.function(example="\\ud800")
def odd_example(item): return item

request = RaisesOnEverything()
listed = OddDoc()
lazy = AddsToTheModule()
'''


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    source = tmp_path_factory.mktemp("hostile") / "hostile.py"
    source.write_text(MODULE)
    with FakeServer(source) as server:
        yield server.until_ready()


def functions(server):
    return {function.name: function for function in server.hello.functions}


def test_the_others_are_there_and_whole(server):
    good = functions(server)["good"]
    assert (good.signature, good.doc) == ("(item: int) -> int", "Return the item.")
    assert good.example


@pytest.mark.parametrize("name", ["default", "exits", "decorated"])
def test_without_a_signature_that_cannot_be_shown(server, name):
    assert functions(server)[name].signature == ""
    assert server.values(name, [1]) == [1]


@pytest.mark.parametrize(
    "name", ["annotated", "annotated_by_name", "odd_signature", "circular", "odd_doc", "odd_example", "listed"]
)
def test_it_is_there_and_runs(server, name):
    assert name in functions(server)
    assert server.values(name, [[1]], style=STAR) == [1]


def test_what_cannot_even_be_asked_is_no_function(server):
    assert "request" not in functions(server)


def test_what_all_lists_is_taken_as_it_is(tmp_path):
    source = tmp_path / "chosen.py"
    source.write_text(MODULE + "\n__all__ = ['good', 'request', 'listed']\n")
    with FakeServer(source) as server:
        server.until_ready()
        assert list(functions(server)) == ["good", "listed", "request"]
        assert server.values("request", [1]) == [1]
