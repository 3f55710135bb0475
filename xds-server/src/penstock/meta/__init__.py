"""Names, origins, conditions, problems and errors: words that every other package uses."""
