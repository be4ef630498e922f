"""What takes a pool as it is: SciPy, emcee and tqdm. The results are those of a run without one."""

import pytest

np = pytest.importorskip("numpy", reason="numpy is not installed")


def rosenbrock(point):
    return float(sum(100 * (point[1:] - point[:-1] ** 2) ** 2 + (1 - point[:-1]) ** 2))


def log_probability(point):
    return -0.5 * float(np.sum((point - np.arange(len(point))) ** 2))


def test_scipy(pool):
    optimize = pytest.importorskip("scipy.optimize", reason="SciPy is not installed")

    def minimum(**settings):
        # The others are evaluated at a time, so the serial run defers, too.
        return optimize.differential_evolution(
            rosenbrock, [(0, 2)] * 3, rng=1, maxiter=20, updating="deferred", polish=False, **settings
        )

    alone, ours = minimum(), minimum(workers=pool.map)
    np.testing.assert_array_equal(ours.x, alone.x)
    assert (ours.fun, ours.nfev, ours.nit) == (alone.fun, alone.nfev, alone.nit)


def test_emcee(pool):
    emcee = pytest.importorskip("emcee", reason="emcee is not installed")
    start = np.random.default_rng(2).normal(size=(12, 3))

    def chain(pool):
        sampler = emcee.EnsembleSampler(12, 3, log_probability, pool=pool)
        sampler._random.seed(3)
        sampler.run_mcmc(start, 30)
        return sampler.get_chain()

    np.testing.assert_array_equal(chain(pool), chain(None))


def test_tqdm(pool, capsys):
    tqdm = pytest.importorskip("tqdm", reason="tqdm is not installed")
    assert list(tqdm.tqdm(pool.imap(abs, range(20)), total=20)) == list(range(20))
    assert "20/20" in capsys.readouterr().err
