"""Noise laws: at which noise levels video and actions are trained together. A file defines `Config`."""
