"""The only room that writes a study's folder."""
