"""What is done on an old server before its data is kept, and what later ones must say of it."""

from typing import Any

from tests.compatibility.stub import Stub
from tests.harness import eventually

USER = {"user_id": "ada"}
BOB = {"user_id": "bob"}
TRAVEL = USER | {"session_id": "travel"}
CLEARED = USER | {"session_id": "cleared"}
MESSAGES = 14
SECONDS = 120.0

Seen = dict[str, Any]


def text(role: str, said: str) -> dict[str, Any]:
    """Return a message as JSON."""
    return {"role": f"ROLE_{role}", "parts": [{"text": said}]}


def live(stub: Stub) -> None:
    """Use everything that a server keeps."""
    stub.call(
        *("MemoryService", "CreateSession"),
        **TRAVEL,
        title="Trável",
        metadata={"city": "Lisbon"},
    )
    for number in range(MESSAGES):
        role = ("USER", "ASSISTANT")[number % 2]
        message = text(role, f"Stop {number} of the tram is near the castle.")
        stub.call("MemoryService", "AppendMessages", **TRAVEL, messages=[message])
    stub.call("ChatService", "Chat", **TRAVEL, message=text("USER", "Where does the tram stop?"))
    stub.call("MemoryService", "CreateSession", **CLEARED)
    said = [text("USER", "Forget this."), text("ASSISTANT", "I do.")]
    stub.call("MemoryService", "AppendMessages", **CLEARED, messages=said)
    stub.call("MemoryService", "ClearSession", **CLEARED)
    later = [text("USER", "But not this.")]
    stub.call("MemoryService", "AppendMessages", **CLEARED, messages=later)
    facts = [
        {"text": "Keeps two herons", "fact_id": "herons", "metadata": {"k": "v"}},
        {"text": "Was born in Porto", "fact_id": "born"},
        {"text": "Likes rain", "fact_id": "rain"},
    ]
    for fact in facts:
        stub.call("MemoryService", "Remember", **USER, facts=[fact])
    stub.call("MemoryService", "ForgetFact", **USER, fact_id="rain")
    other = [{"text": "Keeps a heron", "fact_id": "herons"}]
    stub.call("MemoryService", "Remember", **BOB, facts=other)
    prompt = {"model": "m", "messages": [text("USER", "What is the capital of Portugal?")]}
    stub.call("CacheService", "Store", **USER, prompt=prompt, answer=[{"text": "Lisbon."}])
    assert stub.call("CacheService", "Lookup", **USER, prompt=prompt)["entry"]
    eventually(lambda: _found(stub), SECONDS)


def _found(stub: Stub) -> Any:
    found = stub.call("MemoryService", "Recall", **USER, query="Which birds?")
    return "herons" in str(found.get("hits"))


def seen(stub: Stub) -> Seen:
    """Return what a server says of it."""
    sessions = stub.call("MemoryService", "ListSessions", **USER)["sessions"]
    shown: Seen = {}
    for session in sessions:
        named = USER | {"session_id": session["session_id"]}
        listed = stub.call("MemoryService", "ListMessages", **named, page_size=1000)["messages"]
        options = {"profile": "CONTEXT_PROFILE_BUFFER"}
        window = stub.call("MemoryService", "GetContext", **named, options=options)
        shown[session["session_id"]] = {
            "title": session.get("title", ""),
            "metadata": session.get("metadata", {}),
            "create_time": session["create_time"],
            "last_sequence": session["last_sequence"],
            "messages": [_message(message) for message in listed],
            "window": [message["parts"][0]["text"] for message in window["messages"]],
        }
    facts = {}
    for user in (USER, BOB):
        listed = stub.call("MemoryService", "ListFacts", **user)["facts"]
        facts[user["user_id"]] = {
            fact["fact_id"]: [fact["text"], fact.get("metadata", {})] for fact in listed
        }
    return {"sessions": shown, "facts": facts}


def _message(message: dict[str, Any]) -> list[Any]:
    return [
        message["sequence"],
        message["message_id"],
        message["role"],
        message["create_time"],
        message["parts"][0]["text"],
    ]
