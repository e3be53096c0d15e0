"""Regularisers that act on the nonlinearity and on the residual branch."""
