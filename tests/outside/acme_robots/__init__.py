"""Plug-ins of videopolicy that live in a distribution of their own."""
