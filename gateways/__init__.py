"""The gateway-neutral configuration model, its compiler, and the translators and agents per kind."""
