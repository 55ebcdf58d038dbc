"""The programs: what wires, runs, publishes and watches the two siblings."""
