"""Rate limits kept in Redis or Valkey, for several processes."""
