"""ComiRec: several vectors of a user, one for each interest that the history shows."""
