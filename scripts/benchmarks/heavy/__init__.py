"""Decoders that are dear to evaluate or have many latent coordinates: ours beside torch's L-BFGS."""
