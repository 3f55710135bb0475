"""Where objects come from: folders of YAML, an API server, and what every source has in common."""
