"""Text that somebody wrote, as it stands in a prompt: data between tags that it cannot leave.

Every text that is recalled, summarised or read for facts goes through here, whoever wrote it: users
paste pages and mails, tools return what others wrote, and models repeat it. The tags themselves are
written by us alone, so a text can neither end its fence nor open another one.
"""

_AS_DATA: dict[int, str] = {
    ord("&"): "&amp;",
    # Brackets that look like those of a tag are taken for them by models, too.
    **dict.fromkeys(map(ord, "<\uff1c\ufe64"), "&lt;"),
    **dict.fromkeys(map(ord, ">\uff1e\ufe65"), "&gt;"),
    # Controls have no meaning in a text; a terminal that shows it may act on them.
    **dict.fromkeys((*range(9), 11, 12, *range(14, 32), *range(127, 160)), " "),
    # What no reader sees and a model reads: tag characters and the supplement of variation
    # selectors, which spell hidden text, and what turns the order of the text on the screen around.
    **dict.fromkeys((*range(0xE0000, 0xE0080), *range(0xE0100, 0xE01F0)), ""),
    **dict.fromkeys((*range(0x202A, 0x202F), *range(0x2066, 0x206A)), ""),
}


def fenced(text: str) -> str:
    """Return a text as data; its lines stay."""
    return text.translate(_AS_DATA)


def fenced_line(text: str) -> str:
    """Return a text as data on one line, so that it cannot look like another entry of a list."""
    return fenced(" ".join(text.splitlines()))
