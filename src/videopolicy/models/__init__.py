"""Models: denoisers of video and actions together. A file defines `Config`, whose `build` gives the model."""
