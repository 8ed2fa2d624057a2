"""A provider without a model: it quotes, and says so."""

from recollect_server.models.offline._extractor import VerbatimExtractor
from recollect_server.models.offline._model import OfflineModel
from recollect_server.models.offline._summarizer import ExtractiveSummarizer

__all__ = ["ExtractiveSummarizer", "OfflineModel", "VerbatimExtractor"]
