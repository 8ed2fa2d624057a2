"""What Watch showed, compared with what clients were told and what is stored."""

from collections import Counter
from collections.abc import Iterable, Sequence
from html import escape
from itertools import pairwise

from tests.faults.connection import repeats
from tests.faults.history import Appended, Call, Clear, Cleared, Done, Other, Seen, Step
from tests.faults.workload import Place

from recollect.v1 import memory_pb2 as pb

SERVER = -1
"""The client whose calls the server's own steps are."""

Changes = Sequence[tuple[int, pb.WatchResponse]]


def wrong_order(changes: Changes) -> list[str]:
    """Return what is wrong with the changes of a user as a whole: order and repeats."""
    found = []
    revisions = [change.user_revision for _, change in changes]
    for earlier, later in pairwise(revisions):
        if later < earlier:
            found.append(f"Watch shows revision {later} after {earlier}")
    tokens = Counter(change.resume_token for _, change in changes)
    found += [f"Watch shows one change {n} times: {t}" for t, n in tokens.items() if n > 1]
    return found


def wrong_messages(changes: Changes, session: str, listed: tuple[str, ...]) -> list[str]:
    """Return how what Watch showed of a session's messages differs from the messages."""
    messages = [
        change.message
        for _, change in changes
        if change.WhichOneof("subject") == "message" and change.message.session_id == session
    ]
    found = []
    sequences = [message.sequence for message in messages]
    if sequences != list(range(1, len(listed) + 1)):
        found.append(f"Watch shows the messages {sequences} of {len(listed)}")
    for message in messages:
        text = message.parts[0].text
        if listed[message.sequence - 1 : message.sequence] != (text,):
            found.append(f"Watch shows another message at {message.sequence}: {text}")
    return found


def wrong_facts_watched(changes: Changes, acknowledged: Iterable[str]) -> list[str]:
    """Return which acknowledged facts Watch did not show once."""
    shown = Counter(c.fact.text for _, c in changes if c.WhichOneof("subject") == "fact")
    return [f"Watch shows a fact {shown[t]} times: {t}" for t in acknowledged if shown[t] != 1]


def steps_of(changes: Changes, place: Place, calls: Sequence[Call]) -> list[Call]:
    """Return the changes of a session that are no appends, as calls in their order.

    Args:
        calls: the session's; a clearing that was answered has the times of its call.
    """
    cleared = {c.outcome.revision: c for c in calls if isinstance(c.outcome, Cleared)}
    steps = []
    for seen, change in changes:
        if change.WhichOneof("subject") != "session" or change.type != pb.CHANGE_TYPE_UPDATED:
            continue
        now = change.session
        if now.session_id != place.session:
            continue
        step = Step(now.window_start, now.summary.through_sequence, now.summary.text)
        call = cleared.get(now.revision) if step.clears else None
        began, ended = (call.invoked, call.returned) if call is not None else (0, seen)
        told = Appended(now.last_sequence + 1, now.last_sequence, now.revision)
        steps.append(Call(SERVER, place.name, step, began, ended or seen, told))
    return steps


def wrong_steps(steps: Sequence[Call], calls: Sequence[Call]) -> list[str]:
    """Return what is wrong with a session's summaries and clearings, in sentences."""
    found = []
    before = 0
    for call in steps:
        step, after = _step(call)
        last = after.last_sequence
        if step.clears:
            before = last
            if step.start != last + 1:
                found.append(f"cleared after {last}, but context starts at {step.start}: {call}")
            continue
        if not before < step.through <= last:
            found.append(f"a summary to {step.through} of {last} after one to {before}: {call}")
        if not step.summary:
            found.append(f"a summary without a text: {call}")
        before = step.through
    made = {_step(call)[1].revision for call in steps if _step(call)[0].clears}
    for call in calls:
        if isinstance(call.outcome, Cleared) and call.outcome.revision not in made:
            found.append(f"Watch does not show {call}")
    # One that was answered may have happened before too, without an answer, if it was repeated.
    told = {c.outcome.revision for c in calls if isinstance(c.outcome, Cleared)}
    hidden = [c for c in calls if isinstance(c.request, Clear) and _may_hide(c)]
    if not hidden and made - told:
        found.append(f"clearings that nobody asked for made the revisions {made - told}")
    return found


def wrong_views(steps: Sequence[Call], calls: Sequence[Call], listed: tuple[str, ...]) -> list[str]:
    """Return which reads show another summary, or other messages after it, than there were."""
    found = []
    answers = [c.outcome for c in (*calls, *steps) if isinstance(c.outcome, Appended)]
    lasts = {answer.revision: answer.last_sequence for answer in answers}
    for call in calls:
        seen = call.outcome
        if not isinstance(seen, Seen) or seen.revision is None:
            continue
        step = _at(steps, seen.revision)
        if seen.through is not None and seen.through != step.through:
            found.append(f"the summary goes to {step.through}: {call}")
        if seen.open is None:
            continue
        first = max(step.through + 1, step.start)
        if seen.open and seen.open_from != first:
            found.append(f"context goes on at {seen.open_from}, not {first}: {call}")
        if seen.open != listed[first - 1 : first - 1 + len(seen.open)]:
            found.append(f"context shows other messages from {first}: {call}")
        end = first - 1 + len(seen.open)
        if end != lasts.get(seen.revision, end):
            found.append(f"context ends at {end} of {lasts[seen.revision]}: {call}")
        if _as_shown(step.summary) not in seen.system:
            found.append(f"context does not show the summary {step.summary!r}: {call}")
        if bool(seen.system) != bool(step.summary):
            found.append(f"context shows more than the summary: {call}")
    return found


def wrong_episodes(episodes: Iterable[pb.Episode], last: int) -> list[str]:
    """Return what is wrong with a session's episodes: they cover all of it, one after the other."""
    spans = sorted((e.first_sequence, e.last_sequence) for e in episodes)
    expected, found = 1, []
    for first, end in spans:
        if first != expected or end < first:
            found.append(
                f"an episode goes from {first} to {end}, expected from {expected}: {spans}"
            )
        expected = end + 1
    if expected != last + 1:
        found.append(f"episodes cover {expected - 1} of {last} messages: {spans}")
    return found


def acknowledged(calls: Iterable[Call]) -> int:
    """Return how many writes were acknowledged."""
    return sum(
        isinstance(call.outcome, Appended | Cleared)
        or (
            isinstance(call.outcome, Done)
            and isinstance(call.request, Other)
            and call.request.what == "Remember"
        )
        for call in calls
    )


def _as_shown(summary: str) -> str:
    """Return a summary as context shows it: on one line, its brackets escaped."""
    return escape(summary, quote=False).replace("\n", " ")


def _may_hide(call: Call) -> bool:
    return repeats(call.client) or not isinstance(call.outcome, Cleared)


def _step(call: Call) -> tuple[Step, Appended]:
    assert isinstance(call.request, Step)
    assert isinstance(call.outcome, Appended)
    return call.request, call.outcome


def _at(steps: Sequence[Call], revision: int) -> Step:
    """Return the newest step at a revision."""
    done = [step for step, after in map(_step, steps) if after.revision <= revision]
    return done[-1] if done else Step(1)
