"""What the service can do, as functions of a session; they know no HTTP, no queue, no commit."""
