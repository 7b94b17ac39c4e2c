"""Networks and where they come from: each is a `Split`, so that a defence can sit between its features and its head."""
