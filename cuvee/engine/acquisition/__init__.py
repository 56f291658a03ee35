"""What a run is worth: candidates, and the improvement that is expected of them per cost."""
