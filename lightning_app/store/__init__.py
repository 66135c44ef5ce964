"""The only package that writes a study's folder."""
