"""Functions for a second pool beside that of `matches.py`; `two-pools.toml` serves both."""

import re
from collections import Counter


def count_words(text: str) -> int:
    """Count the words of a text."""
    return len(re.findall(r"\w+", text))


def frequent_words(text: str, count: int = 3) -> list[str]:
    """Return the most frequent words of a text, the most frequent first; for StarMap with a count."""
    return [word for word, _ in Counter(re.findall(r"\w+", text.lower())).most_common(count)]
