"""joblib's own tests of its backends, run with ours: those with a parameter that is a backend get it in that place."""

import types

import pytest

joblib = pytest.importorskip("joblib", reason="joblib is not installed")
pytest.importorskip("numpy", reason="numpy is not installed")

import procpool

procpool.register_joblib()
theirs = pytest.importorskip("joblib.test.test_parallel", reason="this joblib comes without its tests")

OURS = "procpool"
BACKEND_ARGUMENTS = {"backend", "parent_backend", "child_backend", "outer_backend", "inner_backend"}

# The backend is one of several parameters of one list, or there is no such parameter and the text of the test has it.
PARAMETERS = {
    "test_nested_parallel_warnings": [(OURS, OURS, False), (OURS, "loky", False), ("threading", OURS, False)],
    "test_multiple_generator_call_separated_gc": [(OURS, False)],
}
WITH_LOKY_IN_THE_TEXT = [
    "test_nested_loop_with_exception_with_loky",
    "test_parallel_byteorder_corruption",
    "test_parallel_pickling",
    "test_threadpool_limitation_in_child_context",
    "test_threadpool_limitation_in_child_loky",
]
SKIPPED = {}
SCRIPTS = ["UNPICKLABLE_CALLABLE_SCRIPT_TEMPLATE_NO_MAIN", "UNPICKLABLE_CALLABLE_SCRIPT_TEMPLATE_MAIN"]


@pytest.fixture(autouse=True)
def _scripts_that_know_our_backend(monkeypatch):
    for name in SCRIPTS:
        monkeypatch.setattr(theirs, name, "import procpool\nprocpool.register_joblib()\n" + getattr(theirs, name))


def adapted(test):
    """Returns the test with our backend in place of theirs; None if it has no backend to replace."""
    has_ours = test.__name__ in WITH_LOKY_IN_THE_TEXT
    marks = []
    for mark in getattr(test, "pytestmark", []):
        if mark.name == "parametrize":
            names = [name.strip() for name in mark.args[0].split(",")]
            if BACKEND_ARGUMENTS & set(names):
                has_ours = True
                values = [OURS] if len(names) == 1 else PARAMETERS[test.__name__]
                mark = pytest.mark.parametrize(mark.args[0], values).mark
        if mark.name != "thread_unsafe":
            marks.append(mark)
    if not has_ours:
        return None
    code = test.__code__
    if test.__name__ in WITH_LOKY_IN_THE_TEXT:
        assert "loky" in code.co_consts
        code = code.replace(co_consts=tuple(OURS if value == "loky" else value for value in code.co_consts))
    copy = types.FunctionType(code, test.__globals__, test.__name__, test.__defaults__, test.__closure__)
    copy.pytestmark = [*marks, pytest.mark.filterwarnings("default")]
    if test.__name__ in SKIPPED:
        copy.pytestmark.append(pytest.mark.skip(reason=SKIPPED[test.__name__]).mark)
    return copy


for name, value in list(vars(theirs).items()):
    if name.startswith("test_") and isinstance(value, types.FunctionType):
        ours = adapted(value)
        if ours is not None:
            globals()[name] = ours
