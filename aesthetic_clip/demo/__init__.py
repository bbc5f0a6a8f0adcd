"""The demonstration model: a text-to-image system of a few megabytes, and the world that it was trained on.

No trained weights are stored here yet. ``python -m aesthetic_clip.demo.train --out aesthetic_clip/demo/model``
makes them; a run that was cut goes on from its states when it is started again with the same ``--work``.
``python -m aesthetic_clip.demo.measure --quality --out DIR`` then says how good the parts are, and the same
without ``--quality`` repeats the paper's experiment. A model card, ``README.md``, belongs beside the weights.
The tests of the model are skipped until it is there.
"""
