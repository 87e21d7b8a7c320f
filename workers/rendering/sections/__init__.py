"""One module per part of the document; each makes finished sections from the context."""
