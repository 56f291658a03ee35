"""Searches whose optimum is known: synthetic laws, and byte n-gram models of real text."""
