"""From a stored image to the network input."""
