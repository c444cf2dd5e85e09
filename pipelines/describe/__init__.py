"""Tables and pictures of what shards hold."""
