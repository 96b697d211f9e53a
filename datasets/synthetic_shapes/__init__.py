"""Shapes on backgrounds that draw themselves."""
