"""What is pickled by `pickle`, which is quick, and what by cloudpickle."""

import datetime
import pickle
import sys
import types
from decimal import Decimal

import cloudpickle
import pytest
from pool import functions

from procpool import _pickling


@pytest.fixture
def by_cloudpickle(monkeypatch):
    """What cloudpickle was asked for."""
    seen = []
    dumps = cloudpickle.dumps
    monkeypatch.setattr(cloudpickle, "dumps", lambda value, **options: seen.append(value) or dumps(value, **options))
    return seen


@pytest.mark.parametrize(
    "value",
    [datetime.datetime(2026, 11, 29), Decimal("1.5"), {1, 2}, functions.OwnError(3, "three"), functions.square, (ValueError,)],
    ids=repr,
)
def test_most_objects_take_the_quick_way(value, by_cloudpickle):
    assert repr(pickle.loads(_pickling.dumps(value))) == repr(value)
    assert by_cloudpickle == []


def test_what_pickle_cannot_send(by_cloudpickle):
    class Local:
        pass

    for value in (lambda: 1, [lambda: 1], Local, Local()):
        pickle.loads(_pickling.dumps(value))
    assert len(by_cloudpickle) == 4


def test_what_the_main_module_defines_is_sent_whole(by_cloudpickle, monkeypatch):
    main = types.ModuleType("__main__")
    exec("class Game: pass", main.__dict__)
    monkeypatch.setitem(sys.modules, "__main__", main)
    sent = [_pickling.dumps(value) for value in (main.Game, main.Game(), [1, main.Game()])]
    assert len(by_cloudpickle) == 3
    del main.Game
    assert [type(pickle.loads(pickled)).__name__ for pickled in sent] == ["type", "Game", "list"]


def test_a_module_that_the_user_wants_to_be_sent_by_value(by_cloudpickle):
    cloudpickle.register_pickle_by_value(functions)
    try:
        _pickling.dumps(functions.square)
    finally:
        cloudpickle.unregister_pickle_by_value(functions)
    assert by_cloudpickle == [functions.square]


def test_a_large_array_is_not_searched(by_cloudpickle):
    numpy = pytest.importorskip("numpy", reason="numpy is not installed")
    large = numpy.zeros(1 << 21, dtype=numpy.uint8)
    assert len(_pickling.dumps(numpy.zeros(8))) < 1000
    assert by_cloudpickle == []
    _pickling.dumps(large)
    assert len(by_cloudpickle) == 1
