"""A straight line by Markov chain Monte Carlo: emcee takes the pool as it is, and with a seed the chain is the serial one.

pip install procpool emcee
"""

import emcee
import numpy as np
from procpool import Pool

X = np.linspace(0, 10, 50)
Y = 2.0 * X + 1.0 + np.random.default_rng(1).normal(0, 0.5, X.size)


def log_probability(parameters):
    slope, intercept = parameters
    return -0.5 * float(np.sum(((Y - slope * X - intercept) / 0.5) ** 2))


def sample(pool):
    sampler = emcee.EnsembleSampler(16, 2, log_probability, pool=pool)
    sampler.random_state = np.random.RandomState(3).get_state()
    sampler.run_mcmc(np.random.default_rng(4).normal([2, 1], 0.1, (16, 2)), 50)
    return sampler.get_chain(flat=True)


if __name__ == "__main__":
    with Pool(2) as pool:
        chain = sample(pool)
    slope, intercept = chain[len(chain) // 2 :].mean(axis=0)
    print(f"slope {slope:.1f}, intercept {intercept:.1f}")
    print(f"the chain of a serial run: {np.array_equal(chain, sample(None))}")
