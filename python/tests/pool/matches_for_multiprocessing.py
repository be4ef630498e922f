"""Ten chess matches, analysed by four processes: written for `multiprocessing`, and run with it and with procpool."""

import time
from functools import partial
from multiprocessing import Pool


def analyze_match(match_id):
    """Announce a match, think about it for a while, and report."""
    print(f"Analyzing match #{match_id}")
    time.sleep(0.01)
    return f"Result for Match #{match_id}: Analysis Clear"


def score(white, black, weight=1):
    """Compare two players."""
    return (white - black) * weight


class Analyst:
    """Someone who analyses matches."""

    def __init__(self, name):
        self.name = name

    def analyze(self, match_id):
        """Report in their own name."""
        return f"{self.name}: match {match_id}"


def main():
    """Analyse ten matches in every way."""
    with Pool(4) as pool:
        for result in pool.map(analyze_match, range(1, 11)):
            print(result)
        print(pool.starmap(score, [(2700, 2650), (2400, 2500)]))
        print(list(pool.imap(partial(score, 2800), [2700, 2900], chunksize=1)))
        print(sorted(pool.imap_unordered(Analyst("Judit").analyze, [1, 2])))
        print(pool.apply(score, (1, 2), {"weight": 10}))
        print(pool.apply_async(score, (5, 3)).get(timeout=10))


if __name__ == "__main__":
    main()
