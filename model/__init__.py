"""Tensors, losses, transport, training and ranking. Knows no Kafka, Qdrant, clock or settings."""
