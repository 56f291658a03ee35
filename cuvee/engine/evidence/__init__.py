"""What is known: this job's runs as arrays, repeated anchors, and the runs of earlier jobs."""
