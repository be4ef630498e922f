"""scikit-learn finds the same with our pool as without one."""

import pytest

pytest.importorskip("sklearn", reason="scikit-learn is not installed")

import numpy as np
from joblib import Parallel, parallel_config
from sklearn.datasets import load_iris, make_classification
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.svm import SVC

import procpool
from procpool._joblib import ProcpoolBackend

procpool.register_joblib()


@pytest.fixture(autouse=True)
def _backend():
    with parallel_config(backend="procpool"):
        assert type(Parallel(n_jobs=2)._backend) is ProcpoolBackend
        yield


def test_a_grid_search_finds_the_same():
    data, target = load_iris(return_X_y=True)
    alone, ours = (
        GridSearchCV(SVC(), {"C": [0.1, 1, 10], "kernel": ["linear", "rbf"]}, n_jobs=n_jobs).fit(data, target)
        for n_jobs in (1, 2)
    )
    assert ours.best_params_ == alone.best_params_
    assert list(ours.cv_results_["params"]) == list(alone.cv_results_["params"])
    for key in ("mean_test_score", "std_test_score", "rank_test_score"):
        np.testing.assert_array_equal(ours.cv_results_[key], alone.cv_results_[key])


def test_a_search_over_models_that_are_parallel_themselves():
    # Large enough to be mapped.
    data, target = make_classification(600, 300, random_state=0)
    assert data.nbytes > 1_000_000
    forest = RandomForestClassifier(8, max_depth=3, random_state=0, n_jobs=2)
    ours = cross_val_score(forest, data, target, n_jobs=2, cv=2)
    np.testing.assert_array_equal(ours, cross_val_score(forest, data, target, n_jobs=1, cv=2))
