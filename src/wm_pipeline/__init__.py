"""World Models (Ha & Schmidhuber 2018, arXiv:1803.10122) as a Kedro pipeline."""

__version__ = "0.1.0"
