"""AUTOMATIC1111's WebUI, 1.6 and later.

``hook`` makes a generation's conditioning aware of the settings, ``conditioning``
personalises it, ``encoders`` finds the text encoders; the rest is what the user sees.
"""
