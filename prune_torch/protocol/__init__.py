"""What is the same for all methods: cells, training, workers, reports."""
