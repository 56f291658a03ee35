"""Programs that show how Cuvée is used, each run by the tests."""
