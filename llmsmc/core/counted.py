"""Counts in words: the noun and the verb beside a count agree with it."""


def counted(count: int, noun: str) -> str:
    """Return a count with its noun, whose plural ends in s.

    >>> counted(1, "particle"), counted(1200, "particle")
    ('1 particle', '1,200 particles')
    """
    return f"{count:,} {agreeing(count, noun, f'{noun}s')}"


def agreeing(count: int, one: str, many: str) -> str:
    """Return the word that stands beside a count.

    >>> [f"{count} of 4 {agreeing(count, 'has', 'have')} an answer" for count in (0, 1, 2)]
    ['0 of 4 have an answer', '1 of 4 has an answer', '2 of 4 have an answer']
    """
    return one if count == 1 else many
