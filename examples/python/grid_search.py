"""A grid search of scikit-learn whose fits are run by procpool: only the backend is named.

pip install procpool scikit-learn
"""

import joblib
import procpool
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV
from sklearn.svm import SVC

procpool.register_joblib()

digits, labels = load_digits(return_X_y=True)
search = GridSearchCV(SVC(), {"C": [1, 10], "gamma": [0.0005, 0.001, 0.01]}, cv=3, n_jobs=2)

with joblib.parallel_config(backend="procpool"):
    search.fit(digits[:600], labels[:600])

print(f"best: {search.best_params_}, accuracy {search.best_score_:.3f}")
