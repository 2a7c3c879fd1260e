"""The import stage; its folder has the name of a keyword, hence the relative imports."""

from .pipeline import create_pipeline

__all__ = ["create_pipeline"]
