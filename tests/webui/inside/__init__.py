"""What runs inside the WebUI's process, called by :meth:`..webui.WebUI.call`.

Each function is an ordinary one: its arguments and its result are what JSON can say. There ``aesthetic_clip``
is the extension as the WebUI loaded it, and ``modules`` are the WebUI's, so these are imported where they are used.
"""
