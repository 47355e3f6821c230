"""The state store on Redis or Valkey; the `.lua` files are its functions."""
