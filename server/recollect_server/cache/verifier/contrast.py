"""Two messages in the same words but for those that change what is said."""

from recollect_server.cache.verifier.reading import Reading

_APART = [
    [frozenset(side.split()) for side in line.split("|")]
    for line in """
    when | where | who whom whose | why | how
    i me my mine | you your yours | we us our ours | they them their theirs | he him his | she her
    is are am do does has have | was were did had
    was were did had | will
    can could may | should must | would
    before | after | during | with | from
    from | to into
    for | against
    on | under | over
    """.strip().splitlines()
]
"""Words without a topic, of which one does not stand for another of its line."""


def contrast(one: Reading, other: Reading) -> bool:
    """Whether messages about the same say something else.

    They have the same content words, but other signs ("C++", "C#"), other negations, another order
    of words, or words that do not stand for one another ("my", "your").
    """
    if one.own != other.own or set(one.values) != set(other.values):
        return False
    if one.signs != other.signs or one.negations != other.negations:
        return True
    if one.sorted_words == other.sorted_words:
        return one.words != other.words
    a, b = frozenset(one.words), frozenset(other.words)
    return any(_apart(sides, a, b) for sides in _APART)


def _apart(sides: list[frozenset[str]], a: frozenset[str], b: frozenset[str]) -> bool:
    first = {place for place, side in enumerate(sides) if side & a}
    second = {place for place, side in enumerate(sides) if side & b}
    return bool(first - second and second - first)
