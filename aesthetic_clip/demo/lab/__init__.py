"""How the demonstration model was made and measured; nothing here is needed to use it."""
