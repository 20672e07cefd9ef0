"""The helper package of the hourglass pose course. See README.md for the flow; import from the modules."""

__version__ = "0.1.0"
