"""Prices in US dollars per million tokens, by the beginning of a model's name, longest first.

Source: OpenAI's published price list. Input that it finds in its prompt cache has its own price.
"""

from recollect_server.memory.prompt import Usage

_INPUT_CACHED_OUTPUT: dict[str, tuple[float, float, float]] = {
    "gpt-5-nano": (0.05, 0.005, 0.40),
    "gpt-5-mini": (0.25, 0.025, 2.00),
    "gpt-5": (1.25, 0.125, 10.00),
    "gpt-4.1-nano": (0.10, 0.025, 0.40),
    "gpt-4.1-mini": (0.40, 0.10, 1.60),
    "gpt-4.1": (2.00, 0.50, 8.00),
    "gpt-4o-mini": (0.15, 0.075, 0.60),
    "gpt-4o": (2.50, 1.25, 10.00),
}


def cost_usd(model: str, usage: Usage) -> float:
    """Return the price of a call, 0 for a model that is not listed."""
    for family, (given, cached, made) in _INPUT_CACHED_OUTPUT.items():
        if model.startswith(family):
            total = given * usage.input_tokens + cached * usage.cache_read_tokens
            return (total + made * usage.output_tokens) / 1_000_000
    return 0.0
