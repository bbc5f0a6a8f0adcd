"""The embeddings as this host's lists and cards show them."""

from __future__ import annotations

from ....pages.index import Index
from .. import options
from ..families.encoders import known_spaces

INDEX = Index(options.embeddings, known_spaces)
