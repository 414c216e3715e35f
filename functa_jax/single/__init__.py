"""SIRENs fitted to single images."""
