"""Lists from candidates, for catalogues too large to score every item for every user."""
