"""``python -m aesthetic_clip``."""

import sys

from .cli import main

sys.exit(main())
