"""Objects judged by the files of CustomResourceDefinitions, as an API server would judge them."""
