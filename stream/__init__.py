"""Events, time, Kafka, files and the dynamic graph. Speaks NumPy and Arrow, never torch."""
