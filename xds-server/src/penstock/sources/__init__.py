"""Where objects come from: a folder of YAML files, and what every source has in common."""
