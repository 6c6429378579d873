"""Pages for a browser: what is in a data set, and what a test found. A page is a file with pictures beside it."""
