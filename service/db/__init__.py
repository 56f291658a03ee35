"""Tables, sessions, and every SQL statement of the program."""
