"""Lists on the wire: encoding and reading them."""
