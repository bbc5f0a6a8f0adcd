"""The members of the WebUI's family: where each has its text encoders, and how they are reached.

``encoders`` finds them, by a :class:`.webui_encoder.WebUIEncoder` for each way in which a host holds one.
"""
