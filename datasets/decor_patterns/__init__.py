"""Traditional decors of four countries, as patterns and on products."""
