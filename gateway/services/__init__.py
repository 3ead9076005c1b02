"""The acts: what can be done with users, sessions and messages, whoever asks. One noun a file."""
