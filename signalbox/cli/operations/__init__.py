"""The verbs that run and maintain an installation."""
