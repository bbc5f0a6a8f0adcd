"""AUTOMATIC1111's WebUI, 1.6 and later, and the forks that kept its way to the conditioning: the Forge family.

``hook`` makes a generation's conditioning aware of the settings, ``conditioning``
personalises it, ``families`` finds the text encoders; the rest is what the user sees.
"""
