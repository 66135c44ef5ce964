"""`report`: from results to words, tables, pictures and a page. No torch."""
