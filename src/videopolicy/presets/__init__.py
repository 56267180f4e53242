"""Named configurations: a file defines `PRESET`; presets are replacements of one another, never copies."""
