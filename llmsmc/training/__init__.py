"""Training of process reward models: samples, labels, training, report; each can be resumed."""
