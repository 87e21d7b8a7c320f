"""Published data sets and plain tables as pair files: from files that the user has, row by row."""
