"""What is concluded: the recommendation with everything that defends it, and the report."""
