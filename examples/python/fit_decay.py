"""A global fit by SciPy: every generation of the differential evolution is evaluated by the workers.

pip install procpool scipy
"""

import numpy as np
from procpool import Pool
from scipy.optimize import differential_evolution

TIMES = np.linspace(0, 10, 200)
TRUE = (5.0, 0.7, 2.0)


def model(parameters):
    amplitude, rate, frequency = parameters
    return amplitude * np.exp(-rate * TIMES) * np.cos(frequency * TIMES)


MEASURED = model(TRUE) + np.random.default_rng(1).normal(0, 0.05, TIMES.size)


def error(parameters):
    return float(np.sum((model(parameters) - MEASURED) ** 2))


if __name__ == "__main__":
    bounds = [(0, 10), (0, 5), (0, 10)]
    with Pool(2) as pool:
        fit = differential_evolution(error, bounds, workers=pool.map, updating="deferred", rng=2, maxiter=60)
    print("amplitude {:.2f}, rate {:.2f}, frequency {:.2f}".format(*fit.x))
