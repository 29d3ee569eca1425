"""Geodesics of decoders with kinks: certificates, cost, and exact lengths beside them."""
