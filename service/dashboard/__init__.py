"""The dashboard: server-rendered pages over the use cases, and the self-contained report page."""
