"""From a table of results to statistics, words and pictures. No torch; knows only the files."""
