"""The command line. `app` knows every command; each command's module is imported only when it runs."""
