"""All SQL: one module of functions per group of tables, each taking a session first."""
