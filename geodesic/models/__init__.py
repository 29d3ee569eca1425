"""What is learned: networks, likelihoods, variational autoencoders and their training. No geometry."""
