"""Run by the WebUI at every start. There is nothing to install: all that is needed comes with the WebUI."""
