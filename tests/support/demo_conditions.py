"""How the demonstration model is asked for a style in the tests, and what has to come of it."""

from aesthetic_clip.demo import LR
from aesthetic_clip.demo.lab.bench import Condition

PAPER = Condition(20, lr=6e-4, weight=0.75)
PAPER_MARGIN = 0.25
CENTRED = Condition(10, lr=LR, centred=1.0)
CENTRED_MARGIN = 0.6
"""How much more of the style the classifier has to see afterwards, of at most 1."""
KEPT = 0.75
"""Of shapes and of colours, with the centred target."""
