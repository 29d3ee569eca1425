"""Training a VAE: what is asked for, the loop, and how an interrupted one goes on. Only this needs Lightning."""
