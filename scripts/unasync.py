"""Write the synchronous client from the asynchronous one.

python scripts/unasync.py            write it
python scripts/unasync.py --check    exit 1 if what is committed differs
"""

import re
import sys
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent / "clients/python/src/recollect"
FILES = ("admin.py", "cache.py", "chat.py", "client.py", "memory.py")
HEADER = "# Written by scripts/unasync.py from _async/{name}; do not edit.\n"

REPLACEMENTS = (
    (r"\basync (def|with|for)\b", r"\1"),
    (r"\bawait ", ""),
    (r"\bAsync(Iterator|Transport|Memory|Cache|Chat|Admin|Recollect)\b", r"\1"),
    (r"\brecollect\._async\b", "recollect._sync"),
    (r"\bgrpc\.aio\.Channel\b", "grpc.Channel"),
    (r"\b__a(enter|exit)__\b", r"__\1__"),
    (r"`async with`", "`with`"),
)


def synchronous(source: str) -> str:
    """Return the synchronous form of an asynchronous module."""
    for pattern, replacement in REPLACEMENTS:
        source = re.sub(pattern, replacement, source)
    return source


def main() -> int:
    """Run the command line."""
    stale = []
    for name in FILES:
        text = HEADER.format(name=name) + synchronous((PACKAGE / "_async" / name).read_text())
        target = PACKAGE / "_sync" / name
        if not target.exists() or target.read_text() != text:
            stale.append(name)
            if "--check" not in sys.argv:
                target.write_text(text)
    if "--check" in sys.argv and stale:
        print(f"_sync is not what _async gives: {', '.join(stale)}; run scripts/unasync.py")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
