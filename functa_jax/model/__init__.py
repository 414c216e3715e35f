"""The networks: SIREN, the modulated SIREN, and their fast sine."""
