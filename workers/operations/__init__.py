"""What an operator does: look, check, rebuild, redrive."""
