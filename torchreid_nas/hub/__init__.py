"""Files by name: the entries of the zoo, where their files come from, and where they are kept."""
