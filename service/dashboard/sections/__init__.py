"""The figures of the report page, a module for each question that the page answers."""
