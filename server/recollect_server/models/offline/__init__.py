"""A provider without a model: it quotes what the prompt recalled, and says so."""

from recollect_server.models.offline._model import OfflineModel

__all__ = ["OfflineModel"]
