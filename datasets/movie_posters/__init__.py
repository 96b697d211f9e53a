"""Movie posters with their genres."""
