"""Prices in US dollars per million tokens, by the beginning of a model's name.

Source: Anthropic's published price list. Reading from the prompt cache costs a tenth of input,
writing to it (for five minutes) a quarter more than input.
"""

from recollect_server.memory.prompt import Usage

_INPUT_AND_OUTPUT: dict[str, tuple[float, float]] = {
    "claude-opus-4": (5.0, 25.0),
    "claude-sonnet-4": (3.0, 15.0),
    "claude-haiku-4": (1.0, 5.0),
}
_CACHE_READ_SHARE = 0.1
_CACHE_WRITE_SHARE = 1.25


def cost_usd(model: str, usage: Usage) -> float:
    """Return the price of a call, 0 for a model that is not listed."""
    for family, (per_input, per_output) in _INPUT_AND_OUTPUT.items():
        if model.startswith(family):
            read = per_input * _CACHE_READ_SHARE * usage.cache_read_tokens
            written = per_input * _CACHE_WRITE_SHARE * usage.cache_write_tokens
            plain = per_input * usage.input_tokens + per_output * usage.output_tokens
            return (plain + read + written) / 1_000_000
    return 0.0
