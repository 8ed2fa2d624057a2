"""Anthropic's models through their SDK, which is imported at the first call."""

from recollect_server.models.anthropic._model import DEFAULT_MODEL, SMALL_MODEL, AnthropicModel

__all__ = ["DEFAULT_MODEL", "SMALL_MODEL", "AnthropicModel"]
