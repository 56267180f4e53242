"""Video generators as robot policies."""
