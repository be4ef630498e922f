"""Functions for a procpool of Python workers.

    procpool serve --processes 4 -- python -m procpool.worker examples/matches.py

There is nothing of procpool in here: every public function of a module can be called, with its docstring as its help.
"""

import math
import time
import zlib

ROUNDS = 4_000_000


def analyze_match(match_id: int) -> str:
    """Analyse a match: announce it, work for a few tenths of a second, and report."""
    print(f"Analyzing match #{match_id}")
    total = 0
    for i in range(ROUNDS):
        total += i * i
    if total <= 0:
        raise ArithmeticError("the sum of squares can't be negative")
    return f"Result for Match #{match_id}: Analysis Clear"


def power(base: float, exponent: float) -> float:
    """Raise a base to an exponent; for StarMap, as each item has two arguments."""
    return base**exponent


def is_prime(number: int) -> bool:
    """Tell whether a number is prime, by trying every divisor."""
    if number < 2:
        return False
    return all(number % divisor for divisor in range(2, math.isqrt(number) + 1))


def square_root(number: float) -> float:
    """Return the square root of a number, and raise ValueError if it is negative."""
    if number < 0:
        raise ValueError(f"{number} has no real square root")
    return math.sqrt(number)


def lookup(table: dict, key: str):
    """Return what a table has for a key, or None; for a map whose common argument is the table."""
    return table.get(key)


def shout(text: str) -> str:
    """Return a text in capital letters."""
    return text.upper()


def compress(data: bytes) -> bytes:
    """Compress bytes with zlib; for blobs, which come in and go out as bytes."""
    return zlib.compress(data)


def rest(seconds: float) -> float:
    """Rest between two matches, and return for how long."""
    print(f"Resting for {seconds} s")
    time.sleep(seconds)
    return seconds
