"""How C is found: the search, where its candidates run, and the loop of both."""
