"""From pictures, or stored features of pictures, to an aesthetic embedding."""
